"""Logits of a whole scan from overlapping patches, in slabs that are finished one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from autoseg.geometry import Shape3
from autoseg.planning.plan import InferencePlan

PEAK_WEIGHT = 10.0
VOXELS_AT_ONCE = 2**18  # of patches in one call of the engine, which bounds its memory

Engine = Callable[[torch.Tensor], torch.Tensor]  # [n, channel, *patch] -> [n, class, *patch]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where patches start, per axis, in a scan padded to at least the patch."""

    padding: tuple[tuple[int, int], ...]
    starts: tuple[tuple[int, ...], ...]


def tile(shape_vox: Sequence[int], patch_size_vox: Sequence[int], step_fraction: float) -> Tiling:
    """Evenly spaced patch positions, at most a step apart, that reach both borders.

    The scan is padded on both sides where the patch is larger. As nnU-Net v2 does.
    """
    padding, starts = [], []
    for size, patch in zip(shape_vox, patch_size_vox, strict=True):
        missing = max(0, patch - size)
        padding.append((missing // 2, missing - missing // 2))
        last = max(0, size - patch)
        count = int(np.ceil(last / max(1.0, patch * step_fraction))) + 1
        step = last / (count - 1) if count > 1 else 0.0
        starts.append(tuple(round(step * index) for index in range(count)))
    return Tiling(tuple(padding), tuple(starts))


@lru_cache(maxsize=4)
def gaussian_weight(patch_size_vox: Shape3, sigma_fraction: float) -> torch.Tensor:
    """Weight of each voxel of a patch [z, y, x]: a Gaussian about its centre, never 0."""
    weight = torch.full((), PEAK_WEIGHT, dtype=torch.float64)
    for size in patch_size_vox:
        offset = torch.arange(size, dtype=torch.float64) - size // 2
        profile = torch.exp(-0.5 * (offset / (size * sigma_fraction)) ** 2)
        weight = weight[..., None] * profile
    smallest = torch.finfo(torch.float16).tiny
    return weight.clamp_min(smallest).float()


def predict_logits(
    image: torch.Tensor, engine: Engine, patch_size_vox: Shape3, plan: InferencePlan
) -> Iterator[torch.Tensor]:
    """Yield logits [class, rows, y, x] of a scan [channel, z, y, x], slab after slab along z.

    Together the slabs have the scan's shape. Patches are weighted by a Gaussian and averaged in
    float32; only the rows that later patches still reach are held. Tensors stay on the image's
    device.
    """
    tiling = tile(image.shape[1:], patch_size_vox, plan.step_fraction)
    padded = F.pad(image, [side for pair in reversed(tiling.padding) for side in pair])
    weight = gaussian_weight(patch_size_vox, plan.gaussian_sigma_fraction).to(image.device)
    z_starts, y_starts, x_starts = tiling.starts
    depth = patch_size_vox[0]
    window_sum: torch.Tensor | None = None  # [class, depth, y, x], from the current z start on
    weight_sum = torch.zeros((depth, *padded.shape[2:]), device=image.device)
    for z, next_z in zip(z_starts, (*z_starts[1:], None), strict=True):
        for yx in _chunks(list(product(y_starts, x_starts)), patch_size_vox):
            boxes = [_window(patch_size_vox, z, y, x) for y, x in yx]
            logits = engine(torch.stack([padded[:, *box] for box in boxes])).float()
            if window_sum is None:
                window_sum = logits.new_zeros((logits.shape[1], *weight_sum.shape))
            for patch_logits, box in zip(logits, boxes, strict=True):
                window_sum[:, :, box[1], box[2]].addcmul_(patch_logits, weight)
                weight_sum[:, box[1], box[2]] += weight
        assert window_sum is not None
        finished = depth if next_z is None else next_z - z
        slab = window_sum[:, :finished] / weight_sum[:finished]
        yield _unpad(slab, tiling, z, padded.shape[1:])
        if next_z is not None:
            window_sum = _advance(window_sum, finished, axis=1)
            weight_sum = _advance(weight_sum, finished, axis=0)


def _window(patch_size_vox: Shape3, *start: int) -> tuple[slice, ...]:
    return tuple(slice(s, s + size) for s, size in zip(start, patch_size_vox, strict=True))


def _chunks(
    positions: list[tuple[int, int]], patch_size_vox: Shape3
) -> Iterator[list[tuple[int, int]]]:
    size = max(1, VOXELS_AT_ONCE // int(np.prod(patch_size_vox)))
    for first in range(0, len(positions), size):
        yield positions[first : first + size]


def _unpad(
    slab: torch.Tensor, tiling: Tiling, first_row: int, padded_shape: Sequence[int]
) -> torch.Tensor:
    (z_before, z_after), (y_before, y_after), (x_before, x_after) = tiling.padding
    z_size, y_size, x_size = padded_shape
    low = max(0, z_before - first_row)
    high = min(slab.shape[1], z_size - z_after - first_row)
    return slab[:, low:high, y_before : y_size - y_after, x_before : x_size - x_after]


def _advance(rows: torch.Tensor, count: int, axis: int) -> torch.Tensor:
    """Drop finished rows and append as many empty ones."""
    kept = rows.narrow(axis, count, rows.shape[axis] - count)
    empty_shape = list(rows.shape)
    empty_shape[axis] = count
    return torch.cat((kept, rows.new_zeros(empty_shape)), dim=axis)
