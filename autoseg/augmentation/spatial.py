"""Rotation, scaling, elastic deformation and mirroring.

The transform is drawn before anything is read, so that the box that is read holds every corner of
the transformed patch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from autoseg.augmentation.change import Change, apply_changes
from autoseg.augmentation.sample import LABEL, RawSample, SampleAugmentation
from autoseg.dataset.labels import IGNORED
from autoseg.geometry import Box, Shape3

CLASSES_AT_ONCE = 8  # indicators that are interpolated together, which bounds memory
NO_CLASS = 254  # which no class has, nor what nobody annotated
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
    """Images [batch, channel, z, y, x]; class indices, outside mask, maps of other inputs by their
    kind, and numbered objects, [batch, z, y, x]."""

    image: torch.Tensor
    label: torch.Tensor
    outside: torch.Tensor | None
    maps: dict[str, torch.Tensor]
    objects: torch.Tensor | None = None


def cut_patches(
    samples: Sequence[RawSample], patch_size_vox: Shape3, device: torch.device
) -> Patches:
    """Every sample's patch, transformed and mirrored."""
    patches = empty_patches(samples, patch_size_vox, device)
    changes = (place(patches, samples), warp(patches, samples), mirror(patches, samples))
    apply_changes(changes, device)
    return patches


def empty_patches(
    samples: Sequence[RawSample], patch_size_vox: Shape3, device: torch.device
) -> Patches:
    """Patches of what the samples hold, to be filled."""
    count, first = len(samples), samples[0]

    def empty(dtype: torch.dtype, *lead: int) -> torch.Tensor:
        return torch.empty((count, *lead, *patch_size_vox), dtype=dtype, device=device)

    return Patches(
        image=empty(torch.float32, first.image.shape[0]),
        label=empty(torch.uint8),
        outside=None if first.outside is None else empty(torch.bool),
        maps={kind: empty(torch.uint8) for kind in first.maps},
        objects=None if first.objects is None else empty(torch.int32),
    )


def place(patches: Patches, samples: Sequence[RawSample]) -> Change:
    """Samples that are not transformed, as they are."""

    def apply() -> None:
        for index, sample in enumerate(samples):
            if sample.augmentation.matrix is None:
                for target, array in _pairs(patches, sample):
                    # As it is stored: a GPU makes single precision of it faster.
                    target[index] = torch.from_numpy(array).to(target.device, non_blocking=True)

    return Change(apply)


def mirror(patches: Patches, samples: Sequence[RawSample]) -> Change:
    """Each sample mirrored along its axes."""

    def apply() -> None:
        for target, _ in _pairs(patches, samples[0]):
            for index, sample in enumerate(samples):
                if sample.augmentation.mirrored_axes:
                    axes = [target.ndim - 4 + axis for axis in sample.augmentation.mirrored_axes]
                    target[index] = target[index].flip(axes)

    return Change(apply)


def warp(patches: Patches, samples: Sequence[RawSample]) -> Change | None:
    """Transformed samples, interpolated: images linearly, each class's indicator likewise; objects
    keep their numbers, as far as they have a class that is numbered in the box."""
    rows = [i for i, sample in enumerate(samples) if sample.augmentation.matrix is not None]
    if not rows:
        return None
    warped = [samples[i] for i in rows]
    box_size = np.max([sample.label.shape for sample in warped], axis=0)
    positions = _Positions.of(warped, patches.label.shape[1:], box_size)
    kinds = (LABEL, *patches.maps)
    present = [np.union1d([0], np.concatenate([s.classes_of(k) for s in warped])) for k in kinds]

    def apply(*sent: torch.Tensor) -> None:
        grid = positions.grid(sent[len(kinds) :])
        image = _stack([sample.image for sample in warped], box_size, grid.device).float()
        _set(patches.image, rows, F.grid_sample(image, grid, align_corners=False))
        for kind, classes in zip(kinds, sent, strict=False):
            values = _stack([s.class_map(kind)[None] for s in warped], box_size, grid.device)
            target = patches.label if kind == LABEL else patches.maps[kind]
            found = _warp_classes(values, classes, grid)
            _set(target, rows, found)
            if kind == LABEL and patches.objects is not None:
                numbered = [s.objects[None] for s in warped if s.objects is not None]
                numbers = _stack(numbered, box_size, grid.device)
                _set(patches.objects, rows, _warp_numbers(numbers, values, found, grid))
        if patches.outside is not None:
            masks = [~s.outside[None] for s in warped if s.outside is not None]
            boxes = _stack(masks, box_size, grid.device).float()
            inside = F.grid_sample(boxes, grid, align_corners=False)
            _set(patches.outside, rows, inside[:, 0] < 0.5)

    return Change(apply, (*(p.astype(np.uint8) for p in present), *positions.arrays))


def _pairs(
    patches: Patches, sample: RawSample
) -> Iterator[tuple[torch.Tensor, NDArray[np.generic]]]:
    """What a batch holds beside where a sample has it."""
    yield patches.image, sample.image
    yield patches.label, sample.label
    if patches.outside is not None and sample.outside is not None:
        yield patches.outside, sample.outside
    if patches.objects is not None and sample.objects is not None:
        yield patches.objects, sample.objects
    for kind, values in patches.maps.items():
        yield values, sample.maps[kind]


def _set(target: torch.Tensor, rows: Sequence[int], values: torch.Tensor) -> None:
    """One row after the other, since a list of rows would have to be sent first."""
    for row, value in zip(rows, values, strict=True):
        target[row] = value


def _warp_classes(values: torch.Tensor, present: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """The class [sample, z, y, x] of those `present` whose indicator, linearly interpolated, is the
    largest."""
    best = torch.full((len(values), *grid.shape[1:4]), -1.0, device=values.device)
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=values.device)
    for some in torch.split(present, CLASSES_AT_ONCE):
        indicators = (values == some.view(1, -1, 1, 1, 1)).float()
        score, index = F.grid_sample(indicators, grid, align_corners=False).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        winner = torch.where(better, some[index], winner)
    # Beyond the box every indicator is 0, and that is background.
    return torch.where(best > 0, winner, torch.zeros_like(winner))


def _warp_numbers(
    numbers: torch.Tensor, classes: torch.Tensor, warped: torch.Tensor, grid: torch.Tensor
) -> torch.Tensor:
    """Numbers [sample, z, y, x] of objects, of numbers and classes [sample, 1, *box], in those
    voxels that have a numbered class now: that of the nearest voxel, or of one beside it, since
    classes are interpolated and reach half a voxel further."""
    kinds = torch.where(numbers > 0, classes, NO_CLASS).flatten().int()
    is_numbered = torch.zeros(IGNORED + 1, dtype=torch.bool, device=classes.device)
    is_numbered[kinds] = True
    is_numbered[NO_CLASS] = False
    moved = numbers.float()  # exact up to 2^24
    nearest = F.grid_sample(moved, grid, mode="nearest", align_corners=False)
    beside = F.max_pool3d(nearest, kernel_size=3, stride=1, padding=1)
    found = torch.where(nearest > 0, nearest, beside)[:, 0].int()
    return found * is_numbered[warped.int()]


def _stack(
    arrays: Sequence[NDArray[Any]], box_size: NDArray[np.int64], device: torch.device
) -> torch.Tensor:
    """Boxes [channel, ...] of different sizes as one tensor, zeros at the far ends."""
    first = torch.from_numpy(arrays[0])
    shape = (len(arrays), len(first), *box_size.tolist())
    stacked = torch.zeros(shape, dtype=first.dtype, device=device)
    for target, array in zip(stacked, arrays, strict=True):
        z, y, x = array.shape[1:]
        target[:, :z, :y, :x].copy_(torch.from_numpy(array), non_blocking=True)
    return stacked


@dataclass(frozen=True, slots=True)
class _Positions:
    """Where the voxels of transformed patches are read; `arrays` is what `grid` is called with."""

    patch_size_vox: tuple[int, ...]
    deformed: tuple[int, ...]  # which of the samples
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(
        cls,
        samples: Sequence[RawSample],
        patch_size_vox: Sequence[int],
        box_size: NDArray[np.int64],
    ) -> "_Positions":
        drawn = [sample.augmentation for sample in samples]
        controls = {i: a.displacement_vox for i, a in enumerate(drawn)}
        deformed = {i: control for i, control in controls.items() if control is not None}
        splines: list[NDArray[np.float64]] = []
        for control in deformed.values():
            counts = zip(patch_size_vox, control.shape[1:], strict=True)
            splines += [control, *(spline_matrix(size, count) for size, count in counts)]
        matrices = np.stack([a.matrix for a in drawn if a.matrix is not None])
        centres = np.stack([sample.centre_vox for sample in samples])
        arrays = [a.astype(np.float32) for a in (matrices, centres, box_size, *splines)]
        return cls(tuple(patch_size_vox), tuple(deformed), tuple(arrays))

    def grid(self, sent: Sequence[torch.Tensor]) -> torch.Tensor:
        """As `grid_sample` wants it: [sample, z, y, x, (x, y, z)], from -1 to 1."""
        matrix, centre, size, *splines = sent  # [sample, 3, 3], [sample, 3], [3]
        axes = [torch.arange(n, device=size.device) - (n - 1) / 2 for n in self.patch_size_vox]
        offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [z, y, x, 3]
        position = torch.einsum("bij,zyxj->bzyxi", matrix, offset) + centre[:, None, None, None]
        for number, row in enumerate(self.deformed):
            position[row] += _displacement(*splines[4 * number : 4 * number + 4])
        return ((2 * position + 1) / size - 1).flip(-1)


def _displacement(
    control_vox: torch.Tensor, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """How far each voxel's source moves [z, y, x, axis], from control points and the spline's
    weights along each axis."""
    moved = torch.einsum("xk,aijk->aijx", x, control_vox)  # one axis after the other: least memory
    moved = torch.einsum("yj,aijx->aiyx", y, moved)
    return torch.einsum("zi,aiyx->zyxa", z, moved)
