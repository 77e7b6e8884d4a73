"""Logits of a scan from overlapping patches, in rows that are finished one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from autoseg.geometry import Shape3
from autoseg.inference.merging import DenseSums, MakeMerger
from autoseg.inference.restore import Span
from autoseg.planning.plan import InferencePlan

PEAK_WEIGHT = 10.0

# [n, channel, *patch] -> [n, output, *patch], or what else the merger takes of each patch
PredictPatches = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Batching:
    """How many patches, or mirror images of them, are run together, where what they give is merged,
    and by what."""

    inputs_at_once: int
    sums_on: torch.device
    merger: MakeMerger = DenseSums


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


def reaching(starts: Sequence[int], patch: int, span: Span) -> tuple[int, ...]:
    """Those starts whose patches have a voxel in a span of the padded scan."""
    return tuple(start for start in starts if start < span[1] and start + patch > span[0])


@lru_cache(maxsize=4)
def gaussian_weight(patch_size_vox: Shape3, sigma_fraction: float) -> torch.Tensor:
    """Weight of each voxel of a patch [z, y, x]: a Gaussian about its centre, never 0.

    Half precision's steps of 6e-8, subnormal numbers included, as nnU-Net v2 rounds it: where
    patches meet along a scan's edges, all weights are this small, and one still leads.
    """
    weight = torch.full((), PEAK_WEIGHT, dtype=torch.float64)
    for size in patch_size_vox:
        offset = torch.arange(size, dtype=torch.float64) - size // 2
        profile = torch.exp(-0.5 * (offset / (size * sigma_fraction)) ** 2)
        weight = weight[..., None] * profile
    rounded = weight.half().float()
    return rounded.clamp_min(float(rounded[rounded > 0].min()))


def predict_logits(
    image: torch.Tensor,
    predict: PredictPatches,
    patch_size_vox: Shape3,
    plan: InferencePlan,
    column: tuple[Span, Span],
    batching: Batching,
) -> Iterator[torch.Tensor]:
    """Yield logits [output, rows, y, x] of a scan [channel, z, y, x], in order along z.

    They are those of a `column`, ranges of y and x; the scan's own shape gives all of it. Patches
    are weighted by a Gaussian and averaged in float32; only rows that later patches still reach
    are held. A constant patch that equals the last constant one is not run again.
    """
    tiling = tile(image.shape[1:], patch_size_vox, plan.step_fraction)
    padded = image
    if any(side for pair in tiling.padding for side in pair):  # else it would be a mere copy
        padded = F.pad(image, [side for pair in reversed(tiling.padding) for side in pair])
    weight = gaussian_weight(patch_size_vox, plan.gaussian_sigma_fraction).to(batching.sums_on)
    (z_before, z_after), *yx_padding = tiling.padding
    spans = [
        (low + before, high + before)
        for (low, high), (before, _) in zip(column, yx_padding, strict=True)
    ]
    z_starts = tiling.starts[0]
    y_starts, x_starts = (
        reaching(starts, patch, span)
        for starts, patch, span in zip(tiling.starts[1:], patch_size_vox[1:], spans, strict=True)
    )
    starts = list(product(z_starts, y_starts, x_starts))
    run = _ConstantsOnce(predict)
    constants = constant_patches(padded, starts, patch_size_vox)
    patches_at_once = max(1, batching.inputs_at_once // 2 ** len(plan.mirror_axes))
    sums = batching.merger(patch_size_vox[0], spans, weight)
    top = 0  # where the sums begin
    first, last = z_before, padded.shape[1] - z_after  # rows of the scan
    for index in range(0, len(starts), patches_at_once):
        together = starts[index : index + patches_at_once]
        patches = torch.stack([padded[:, *_window(patch_size_vox, start)] for start in together])
        known = constants[index : index + patches_at_once]
        logits = run(patches, known).to(batching.sums_on, torch.float32)
        for patch, (z, *yx) in zip(logits, together, strict=True):
            if z > top:
                yield from sums.means(max(0, first - top), z - top)
                sums.advance(z - top)
                top = z
            sums.add(patch, yx)
    yield from sums.means(max(0, first - top), last - top)
    sums.check()


def constant_patches(
    image: torch.Tensor, starts: Sequence[Shape3], patch_size_vox: Shape3
) -> list[tuple[float, ...] | None]:
    """The values of the channels of patches that repeat one, such as air; None of all others.

    Looked for in all patches together, so that a device is waited for once.
    """
    ranges = [
        torch.stack(torch.aminmax(image[:, *_window(patch_size_vox, start)].flatten(1), dim=1))
        for start in starts
    ]  # [low and high, channel]
    return [tuple(low) if low == high else None for low, high in torch.stack(ranges).tolist()]


class _ConstantsOnce:
    """Predicts patches; those of one repeated value only once."""

    def __init__(self, predict: PredictPatches) -> None:
        self.predict = predict
        self.last: tuple[tuple[float, ...], torch.Tensor] | None = None  # values, logits

    def __call__(
        self, patches: torch.Tensor, constants: Sequence[tuple[float, ...] | None]
    ) -> torch.Tensor:
        """Patches [n, channel, z, y, x], and which of them are constant."""
        others = [index for index, values in enumerate(constants) if values is None]
        if len(others) == len(patches):
            return self.predict(patches)
        outputs: dict[int, torch.Tensor] = {}
        if others:
            varied = torch.stack([patches[index] for index in others])
            outputs |= dict(zip(others, self.predict(varied).clone(), strict=True))
        for index, values in enumerate(constants):
            if values is not None:
                if self.last is None or self.last[0] != values:
                    self.last = (values, self.predict(patches[index : index + 1])[0].clone())
                outputs[index] = self.last[1]
        return torch.stack([outputs[index] for index in range(len(patches))])


def _window(patch_size_vox: Shape3, start: Shape3) -> tuple[slice, ...]:
    return tuple(slice(s, s + size) for s, size in zip(start, patch_size_vox, strict=True))
