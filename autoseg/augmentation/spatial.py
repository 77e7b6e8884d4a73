"""Rotation, scaling, elastic deformation and mirroring.

The transform is drawn before anything is read, so that the box that is read holds every corner of
the transformed patch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from autoseg.augmentation.sample import RawSample, SampleAugmentation
from autoseg.geometry import Box, Shape3

CLASSES_AT_ONCE = 8  # indicators that are interpolated together, which bounds memory
SPLINE_SUPPORT = 3  # control points beyond the number of intervals, for cubic splines


def rotation_matrix(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about array axes 0, 1 and 2, applied in this order, as a matrix [3, 3]."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def source_box(
    start_vox: Sequence[int], patch_size_vox: Shape3, drawn: SampleAugmentation
) -> tuple[Box, NDArray[np.float64]]:
    """The box to read for a patch that starts at `start_vox`, and the patch centre inside it."""
    size = np.array(patch_size_vox)
    start = np.array(start_vox)
    centre = start + (size - 1) / 2
    if drawn.matrix is None:
        stop = start + size
    else:
        reach = np.abs(drawn.matrix) @ ((size - 1) / 2)
        if drawn.displacement_vox is not None:
            reach = reach + np.abs(drawn.displacement_vox).max(axis=(1, 2, 3))
        start = np.floor(centre - reach).astype(int)
        stop = np.ceil(centre + reach).astype(int) + 1
    return Box(start=tuple(start.tolist()), stop=tuple(stop.tolist())), centre - start


def control_counts(patch_size_vox: Shape3, spacing_vox: float) -> tuple[int, ...]:
    """How many control points a patch has along each axis, those beyond its borders included."""
    intervals = (max(1, int(np.ceil((size - 1) / spacing_vox))) for size in patch_size_vox)
    return tuple(count + SPLINE_SUPPORT for count in intervals)


def spline_matrix(size: int, count: int) -> NDArray[np.float64]:
    """Cubic B-spline weights [size, count] of evenly spaced control points; rows sum to 1.

    The free-form deformation of Rueckert et al. 1999 (doi:10.1109/42.796284). No weight is
    negative, so voxels move no further than control points.
    """
    intervals = count - SPLINE_SUPPORT
    position = np.linspace(0, intervals, size) if size > 1 else np.zeros(1)
    first = np.minimum(position.astype(int), intervals - 1)
    u = position - first
    cubic = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    matrix = np.zeros((size, count))
    for offset, weights in enumerate(cubic):
        matrix[np.arange(size), first + offset] = weights / 6
    return matrix


@dataclass(frozen=True, slots=True)
class Patches:
    """Images [batch, channel, z, y, x]; class indices, outside mask, and maps of other inputs by
    their kind, [batch, z, y, x]."""

    image: torch.Tensor
    label: torch.Tensor
    outside: torch.Tensor | None
    maps: dict[str, torch.Tensor]


def cut_patches(
    samples: Sequence[RawSample], patch_size_vox: Shape3, device: torch.device
) -> Patches:
    """Every sample's patch, transformed and mirrored."""
    count, first = len(samples), samples[0]

    def empty(dtype: torch.dtype, *lead: int) -> torch.Tensor:
        return torch.empty((count, *lead, *patch_size_vox), dtype=dtype, device=device)

    patches = Patches(
        image=empty(torch.float32, first.image.shape[0]),
        label=empty(torch.uint8),
        outside=None if first.outside is None else empty(torch.bool),
        maps={kind: empty(torch.uint8) for kind in first.maps},
    )
    warped = [i for i, sample in enumerate(samples) if sample.augmentation.matrix is not None]
    for index, sample in enumerate(samples):
        if index not in warped:
            for target, array in _pairs(patches, sample):
                target[index] = torch.from_numpy(array).to(device, non_blocking=True)
    if warped:
        _warp(patches, warped, [samples[i] for i in warped], device)
    for target, _ in _pairs(patches, first):
        _mirror(samples, target)
    return patches


def _pairs(
    patches: Patches, sample: RawSample
) -> Iterator[tuple[torch.Tensor, NDArray[np.generic]]]:
    """What a batch holds beside where a sample has it."""
    yield patches.image, sample.image
    yield patches.label, sample.label
    if patches.outside is not None and sample.outside is not None:
        yield patches.outside, sample.outside
    for kind, values in patches.maps.items():
        yield values, sample.maps[kind]


def _mirror(samples: Sequence[RawSample], tensor: torch.Tensor) -> None:
    for index, sample in enumerate(samples):
        if sample.augmentation.mirrored_axes:
            axes = [tensor.ndim - 4 + axis for axis in sample.augmentation.mirrored_axes]
            tensor[index] = tensor[index].flip(axes)


def _warp(
    patches: Patches, rows: list[int], samples: Sequence[RawSample], device: torch.device
) -> None:
    """Interpolate transformed patches: images linearly, each class's indicator likewise."""
    patch_size_vox = patches.label.shape[1:]
    box_size = np.max([sample.label.shape for sample in samples], axis=0)
    grid = _sampling_grid(samples, patch_size_vox, box_size, device)
    image = _stack([sample.image for sample in samples], box_size).to(device)
    patches.image[rows] = F.grid_sample(image, grid, align_corners=False)
    label = _stack([sample.label[None] for sample in samples], box_size).to(device)
    patches.label[rows] = _warp_classes(label, grid)
    for kind, values in patches.maps.items():
        maps = _stack([sample.maps[kind][None] for sample in samples], box_size)
        values[rows] = _warp_classes(maps.to(device), grid)
    if patches.outside is not None:
        outside = [sample.outside for sample in samples if sample.outside is not None]
        inside = _stack([~mask[None] for mask in outside], box_size).to(device).float()
        patches.outside[rows] = F.grid_sample(inside, grid, align_corners=False)[:, 0] < 0.5


def _warp_classes(classes: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """The class [sample, z, y, x] whose indicator, linearly interpolated, is the largest."""
    best = torch.full((len(classes), *grid.shape[1:4]), -1.0, device=classes.device)
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=classes.device)
    present = torch.unique(classes)
    for some in present.split(CLASSES_AT_ONCE):
        indicators = (classes == some.view(1, -1, 1, 1, 1)).float()
        score, index = F.grid_sample(indicators, grid, align_corners=False).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        winner = torch.where(better, some[index], winner)
    # Beyond the box every indicator is 0, and that is background.
    return torch.where(best > 0, winner, torch.zeros_like(winner))


def _stack(arrays: Sequence[NDArray[np.generic]], box_size: NDArray[np.int64]) -> torch.Tensor:
    """Boxes [channel, ...] of different sizes as one tensor, zeros at the far ends."""
    stacked = np.zeros((len(arrays), arrays[0].shape[0], *box_size), dtype=arrays[0].dtype)
    for target, array in zip(stacked, arrays, strict=True):
        z, y, x = array.shape[1:]
        target[:, :z, :y, :x] = array
    return torch.from_numpy(stacked)


def _sampling_grid(
    samples: Sequence[RawSample],
    patch_size_vox: Sequence[int],
    box_size: NDArray[np.int64],
    device: torch.device,
) -> torch.Tensor:
    """Where each output voxel is read, as `grid_sample` wants it: [sample, z, y, x, (x, y, z)]."""
    axes = [torch.arange(n, device=device) - (n - 1) / 2 for n in patch_size_vox]
    offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [z, y, x, 3]
    matrices = np.stack([_matrix(sample) for sample in samples])
    centres = np.stack([sample.centre_vox for sample in samples])
    matrix = torch.from_numpy(matrices).to(device, torch.float32)  # [sample, 3, 3]
    centre = torch.from_numpy(centres).to(device, torch.float32)  # [sample, 3]
    position = torch.einsum("bij,zyxj->bzyxi", matrix, offset) + centre[:, None, None, None]
    for row, sample in zip(position, samples, strict=True):
        if sample.augmentation.displacement_vox is not None:
            row += _displacement(sample.augmentation.displacement_vox, patch_size_vox, device)
    size = torch.from_numpy(box_size).to(device, torch.float32)
    return ((2 * position + 1) / size - 1).flip(-1)


def _matrix(sample: RawSample) -> NDArray[np.float64]:
    assert sample.augmentation.matrix is not None
    return sample.augmentation.matrix


def _displacement(
    control_vox: NDArray[np.float64], patch_size_vox: Sequence[int], device: torch.device
) -> torch.Tensor:
    """How far each voxel's source moves [z, y, x, axis], from its control points."""
    z, y, x = (
        torch.from_numpy(spline_matrix(size, count)).to(device, torch.float32)
        for size, count in zip(patch_size_vox, control_vox.shape[1:], strict=True)
    )
    moved = torch.from_numpy(control_vox).to(device, torch.float32)
    moved = torch.einsum("xk,aijk->aijx", x, moved)  # one axis after the other: least memory
    moved = torch.einsum("yj,aijx->aiyx", y, moved)
    return torch.einsum("zi,aiyx->zyxa", z, moved)
