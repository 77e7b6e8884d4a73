"""Scans whose slices are shifted against each other, as under a tilted gantry: set upright, and
back.

Slices stay in their planes: each is shifted within its own, by linear interpolation, so that a
network sees right angles. A mask comes back on the slices as they were, by the nearest voxel.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Grid, Shape3

LEAST_TILT = 5e-3  # cosine between a slice step and its slice; below, it is rounding
LEAST_SHIFT_VOX = 0.5  # of the last slice against the first

D = TypeVar("D", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Tilt:
    """A scan's own grid, the upright one around it, and how slices along an axis are shifted.

    `shift_vox` is by how much each slice lies further than the one before, of each array axis.
    `first_vox` is where the own grid's first slice begins on the upright one.
    """

    own: Grid
    upright: Grid
    axis: int
    shift_vox: tuple[float, float, float]
    first_vox: tuple[int, int, int]

    def set_upright(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """An image [channel, z, y, x] on the upright grid; beyond it the channel's least value."""
        out = np.empty((len(array), *self.upright.shape_vox), np.float32)
        out[...] = array.min(axis=(1, 2, 3), keepdims=True)
        for index in range(self.own.shape_vox[self.axis]):
            source = np.take(array, index, axis=1 + self.axis)
            target = np.moveaxis(out, 1 + self.axis, 1)[:, index]
            for dimension, (axis, shift) in enumerate(self._shifts(index), 1):
                source = _shifted(source, dimension, shift, self.upright.shape_vox[axis])
            target[...] = np.where(np.isnan(source), target, source)
        return out

    def labels_upright(self, labels: NDArray[D]) -> NDArray[D]:
        """A label map [z, y, x] on the upright grid, each voxel as the nearest one is."""
        out = np.zeros(self.upright.shape_vox, labels.dtype)
        for index in range(self.own.shape_vox[self.axis]):
            plane = np.moveaxis(out, self.axis, 0)[index]
            source = np.moveaxis(labels, self.axis, 0)[index]
            rows, columns = (
                np.arange(plane.shape[dimension]) - whole
                for dimension, whole in enumerate(self._whole_shifts(index))
            )
            keep = [(i >= 0) & (i < n) for i, n in zip((rows, columns), source.shape, strict=True)]
            plane[np.ix_(*keep)] = source[np.ix_(rows[keep[0]], columns[keep[1]])]
        return out

    def back(self, array: NDArray[D]) -> NDArray[D]:
        """An array [..., z, y, x] on the upright grid, put on the scan's own slices."""
        planes = np.moveaxis(array, array.ndim - 3 + self.axis, 0)
        sizes = [n for axis, n in enumerate(self.own.shape_vox) if axis != self.axis]
        back = []
        for index, plane in enumerate(planes):
            rows, columns = (
                np.arange(size) + whole
                for size, whole in zip(sizes, self._whole_shifts(index), strict=True)
            )
            back.append(plane[..., rows[:, None], columns])
        return np.ascontiguousarray(np.moveaxis(np.stack(back), 0, array.ndim - 3 + self.axis))

    def _whole_shifts(self, index: int) -> list[int]:
        """The same in whole voxels, so that what labels are moved by one way they are the other."""
        return [int(np.floor(shift + 0.5)) for _, shift in self._shifts(index)]

    def _shifts(self, index: int) -> list[tuple[int, float]]:
        """The other axes, and where a slice begins along them on the upright grid."""
        return [
            (axis, self.first_vox[axis] + index * self.shift_vox[axis])
            for axis in range(3)
            if axis != self.axis
        ]


def tilt_of(grid: Grid) -> Tilt | None:
    """How a grid's slices are shifted; None where they are not, or two axes are no right angle.

    Slices are what two axes at right angles span, to which the third is not.
    """
    columns = grid.affine_ras_mm[:3, :3]
    unit = columns / np.linalg.norm(columns, axis=0)
    cosines = unit.T @ unit
    tilted = [pair for pair in combinations(range(3), 2) if abs(cosines[pair]) > LEAST_TILT]
    axes = set(range(3)).intersection(*tilted) if tilted else set()
    if not axes:
        return None
    # Two axes alone may be askew: then the coarser counts as the step between slices.
    step = max(axes, key=lambda column: float(np.linalg.norm(columns[:, column])))
    return _tilt(grid, 2 - step)


def _tilt(grid: Grid, axis: int) -> Tilt | None:
    affine = grid.affine_ras_mm.copy()
    step, count = affine[:3, 2 - axis].copy(), grid.shape_vox[axis]
    shift, first, shape = [0.0, 0.0, 0.0], [0, 0, 0], list(grid.shape_vox)
    for other in range(3):
        if other == axis:
            continue
        edge = affine[:3, 2 - other]
        shift[other] = float(step @ edge / (edge @ edge))
        ends = (0.0, shift[other] * (count - 1))
        first[other] = int(np.ceil(-min(ends)))
        shape[other] += first[other] + int(np.ceil(max(ends)))
        affine[:3, 2 - axis] -= shift[other] * edge
    if max(abs(s) * (count - 1) for s in shift) < LEAST_SHIFT_VOX:
        return None
    for other in range(3):
        affine[:3, 3] -= first[other] * affine[:3, 2 - other]
    upright_shape: Shape3 = (shape[0], shape[1], shape[2])
    return Tilt(
        grid,
        Grid(upright_shape, affine),
        axis,
        (shift[0], shift[1], shift[2]),
        (first[0], first[1], first[2]),
    )


def _shifted(plane: NDArray[Any], dimension: int, shift: float, size: int) -> NDArray[np.float32]:
    """[channel, a, b] moved along one of its axes by voxels, NaN where there was nothing."""
    moved = np.moveaxis(plane, dimension, -1)
    position = np.arange(size) - shift
    low = np.floor(position).astype(int)
    weight = (position - low).astype(np.float32)
    last = moved.shape[-1] - 1
    inside = (position >= -0.5) & (position <= last + 0.5)
    below = moved[..., np.clip(low, 0, last)]
    above = moved[..., np.clip(low + 1, 0, last)]
    values = np.where(inside, below + weight * (above - below), np.nan).astype(np.float32)
    return np.moveaxis(values, -1, dimension)
