"""Where voxels are in the patient: grids, boxes, and the way from a source grid to a plan's grid.

Arrays are in reversed file order (z, y, x). Affines act on file order (x, y, z) and give RAS
millimetres, as in the NIfTI standard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from autoseg.records import Record

Shape3 = tuple[int, int, int]
Spacing3 = tuple[float, float, float]
Orientation = Literal["as_stored", "canonical"]

SINGLE_SLICE_RATIO = 999.0
SAME_SPACE_MM = 0.1  # how far apart the corners of two grids may be that are called equal,
SAME_SPACE_VOX = 0.25  # or this many voxels, if that is less
CANONICAL_AXES = ("IS", "PA", "LR")  # array axes z, y, x grow towards superior, anterior, right

D = TypeVar("D", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Grid:
    """A voxel grid in space: array shape (z, y, x) and the affine from file indices to RAS mm."""

    shape_vox: Shape3
    affine_ras_mm: NDArray[np.float64]  # [4, 4], shear included

    @property
    def spacing_mm(self) -> Spacing3:
        """Distance between neighbouring voxels along array axes (z, y, x)."""
        x, y, z = np.linalg.norm(self.affine_ras_mm[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def planning_spacing_mm(self) -> Spacing3:
        """Spacing as plans see it: across a single slice it is 999 times the larger in-plane one.

        A slice says nothing about the distance to another, whatever its header states; so the
        slice axis is always the coarsest.
        """
        lone = [axis for axis, size in enumerate(self.shape_vox) if size == 1]
        if len(lone) != 1:
            return self.spacing_mm
        z, y, x = (
            SINGLE_SLICE_RATIO * max(self.spacing_mm[:axis] + self.spacing_mm[axis + 1 :])
            if axis == lone[0]
            else mm
            for axis, mm in enumerate(self.spacing_mm)
        )
        return z, y, x

    @property
    def axis_codes(self) -> str:
        """Anatomical directions that array axes (z, y, x) grow towards, such as `SAR`."""
        return "".join(reversed(aff2axcodes(self.affine_ras_mm)))


class Box(Record):
    """A half-open block of voxels, one entry per array axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


class Placement(Record):
    """The whole way between a source array and its prepared twin, in both directions.

    Forward: flip `flipped_axes` of the source, permute by `axis_order`, cut out `crop`, resample to
    `resampled_shape_vox`. Spacings and shapes after the permutation are in the plan's axis order.
    """

    source_shape_vox: Shape3
    flipped_axes: tuple[int, ...]
    axis_order: Shape3
    crop: Box
    resampled_shape_vox: Shape3
    source_spacing_mm: Spacing3
    target_spacing_mm: Spacing3

    def to_plan_axes(self, array: NDArray[D]) -> NDArray[D]:
        """View a source array [..., z, y, x] in the plan's axis order."""
        return reorder_axes(array, self.flipped_axes, self.axis_order)

    def to_source_axes(self, array: NDArray[D]) -> NDArray[D]:
        """View an array [..., plan axes] in the source's axis order: undoes `to_plan_axes`."""
        lead = array.ndim - 3
        back = [lead + int(axis) for axis in np.argsort(self.axis_order)]
        reordered = array.transpose(*range(lead), *back)
        return np.flip(reordered, tuple(lead + axis for axis in self.flipped_axes))


def reorder_axes(array: NDArray[D], flipped: Sequence[int], order: Sequence[int]) -> NDArray[D]:
    """View the last three axes of an array flipped, then permuted."""
    lead = array.ndim - 3
    flipped_array = np.flip(array, tuple(lead + axis for axis in flipped))
    return flipped_array.transpose(*range(lead), *(lead + axis for axis in order))


def canonical_order(axis_codes: str) -> Shape3:
    """Source array axes in the order superior-inferior, anterior-posterior, left-right."""
    axes = [
        next(axis for axis, code in enumerate(axis_codes) if code in pair)
        for pair in CANONICAL_AXES
    ]
    return axes[0], axes[1], axes[2]


def plan_axes(
    axis_codes: str, orientation: Orientation, axis_order: Shape3
) -> tuple[tuple[int, ...], Shape3]:
    """Which source axes to flip, and the order to take them in, to reach a plan's axes."""
    if orientation == "as_stored":
        return (), axis_order
    canonical = canonical_order(axis_codes)
    flipped = tuple(axis for axis, code in enumerate(axis_codes) if code in "IPL")
    return flipped, (canonical[axis_order[0]], canonical[axis_order[1]], canonical[axis_order[2]])


def resampled_shape(shape_vox: Shape3, spacing_mm: Spacing3, target_mm: Spacing3) -> Shape3:
    """Voxels per axis after resampling to another spacing; at least one.

    Python's rounding (half to even), as the published heuristics do.
    """
    z, y, x = (
        max(1, round(old / new * size))
        for size, old, new in zip(shape_vox, spacing_mm, target_mm, strict=True)
    )
    return z, y, x


def turn_onto(grid: Grid, other: Grid) -> tuple[tuple[int, ...], Shape3] | None:
    """Array axes to flip, and the order to take them in, that put a grid's voxels on another's.

    None where no turn does, voxel by voxel.
    """
    to_other = np.linalg.inv(other.affine_ras_mm) @ grid.affine_ras_mm  # of file indices
    turn = np.rint(to_other[:3, :3])
    if not np.allclose(abs(turn) @ np.ones(3), 1) or not np.allclose(abs(turn).T @ np.ones(3), 1):
        return None
    by_array_axis = turn[::-1, ::-1]  # [other's axis, own axis]
    order = [int(axis) for axis in abs(by_array_axis).argmax(axis=1)]
    flipped = tuple(axis for axis in range(3) if by_array_axis[:, axis].sum() < 0)
    turned = _turned(grid, flipped, (order[0], order[1], order[2]))
    return (flipped, (order[0], order[1], order[2])) if same_space(turned, other) else None


def _turned(grid: Grid, flipped: Sequence[int], order: Shape3) -> Grid:
    """The grid of an array that `reorder_axes` has turned."""
    affine = grid.affine_ras_mm.copy()
    for axis in flipped:
        affine[:3, 3] += affine[:3, 2 - axis] * (grid.shape_vox[axis] - 1)
        affine[:3, 2 - axis] *= -1
    affine[:3, :3] = affine[:3, [2 - axis for axis in reversed(order)]]
    z, y, x = (grid.shape_vox[axis] for axis in order)
    return Grid((z, y, x), affine)


def same_space(a: Grid, b: Grid, tolerance_mm: float = SAME_SPACE_MM) -> bool:
    """Whether two grids have equal shapes and every corner near its twin.

    Near is within the tolerance, and within a quarter of the smallest voxel edge.
    """
    if a.shape_vox != b.shape_vox:
        return False
    edge_mm = min(a.spacing_mm)
    return corner_distance_mm(a, b) <= min(tolerance_mm, SAME_SPACE_VOX * edge_mm)


def corner_distance_mm(a: Grid, b: Grid) -> float:
    """The largest distance between a corner of one grid and the same of another of equal shape."""
    last = np.array(a.shape_vox[::-1]) - 1
    corners = np.array(np.meshgrid(*[(0, end) for end in last])).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])  # [4, corner]
    apart = (a.affine_ras_mm - b.affine_ras_mm)[:3] @ homogeneous
    return float(np.linalg.norm(apart, axis=0).max())
