"""How scans are looked at: which axis is cut, and which way slices are turned."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import CANONICAL_AXES, Grid, Shape3, Spacing3, canonical_order, reorder_axes

THICKER = 1.05  # slices are cut across an axis other than the body's only if it is coarser

D = TypeVar("D", bound=np.generic)


@dataclass(frozen=True, slots=True)
class View:
    """The way from a stored array to slices as radiologists look at them: anterior or superior up,
    and the patient's right on the left. A picture stays as it is stored.

    `edges` are the anatomical directions at a slice's left and top; None for a picture.
    """

    flipped: tuple[int, ...]
    order: Shape3
    cut: int  # the axis, after turning, that slices are counted along
    pixel_mm: tuple[float, float]  # row, column
    edges: tuple[str, str] | None

    def slices(self, array: NDArray[D]) -> NDArray[D]:
        """View an array [..., z, y, x] as [..., slice, row, column]."""
        turned = reorder_axes(array, self.flipped, self.order)
        return np.moveaxis(turned, turned.ndim - 3 + self.cut, turned.ndim - 3)


def view_of(grid: Grid) -> View:
    """The view of a scan that lies on a grid."""
    # A flat image at the origin is a photograph, which is looked at as it is stored.
    is_picture = 1 in grid.shape_vox and not grid.affine_ras_mm[:3, 3].any()
    return make_view(grid.axis_codes, grid.spacing_mm, is_picture)


def make_view(axis_codes: str, spacing_mm: Spacing3, is_picture: bool) -> View:
    """Slices across the body, or across the coarsest axis where another one is coarser."""
    order = (0, 1, 2) if is_picture else canonical_order(axis_codes)
    turned_mm = [spacing_mm[axis] for axis in order]
    coarsest = int(np.argmax(turned_mm))
    cut = coarsest if turned_mm[coarsest] > THICKER * turned_mm[0] else 0
    row, column = (axis for axis in range(3) if axis != cut)
    return View(
        flipped=() if is_picture else _growing_the_other_way(axis_codes),
        order=order,
        cut=cut,
        pixel_mm=(turned_mm[row], turned_mm[column]),
        edges=None if is_picture else (CANONICAL_AXES[column][1], CANONICAL_AXES[row][1]),
    )


def _growing_the_other_way(axis_codes: str) -> tuple[int, ...]:
    """Axes to flip so that rows run down from superior or anterior, and columns from right."""
    return tuple(axis for axis, code in enumerate(axis_codes) if code in "SAR")
