"""Surfaces of masks, how much each of their elements counts, and how far two of them are apart.

Masks here are [z, y, x] or, of a single slice, [y, x], with a spacing of as many axes. Outside of
the array there is background.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
SurfaceKind = Literal["voxel", "area"]

DENSE = 0.1  # share of a box above which distances of all its voxels are found sooner than of some


@dataclass(frozen=True, slots=True)
class Distances:
    """Of each element of a surface to the nearest element of another, in mm.

    `areas_mm2` are those of the elements (lengths in mm in a single slice); None where elements are
    voxels, of which each counts 1.
    """

    mm: Floats  # [element]
    areas_mm2: Floats | None  # [element]

    @property
    def amount(self) -> float:
        """Of surface: voxels, or area."""
        return len(self.mm) if self.areas_mm2 is None else float(self.areas_mm2.sum())

    @property
    def total_mm(self) -> float:
        """The sum of distances, each as often as its element counts."""
        return float(self.mm.sum() if self.areas_mm2 is None else self.mm @ self.areas_mm2)

    def amount_within(self, tolerance_mm: float) -> float:
        """How much of the surface is no farther than that."""
        near = self.mm <= tolerance_mm
        return float(near.sum() if self.areas_mm2 is None else self.areas_mm2[near].sum())

    def percentile_mm(self, percent: float) -> float:
        """The distance that so much of the surface does not exceed.

        Of voxels it is interpolated as by numpy; by area it is the distance of the first element,
        in order of distance, with which that share of the area is reached.
        """
        if self.areas_mm2 is None:
            return float(np.percentile(self.mm, percent))
        order = np.argsort(self.mm)
        shares = np.cumsum(self.areas_mm2[order]) / self.areas_mm2.sum()
        index = int(np.searchsorted(shares, percent / 100))
        return float(self.mm[order[min(index, len(order) - 1)]])


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a mask's surface has elements, and their areas in mm² (None: voxels)."""

    elements: Mask
    areas_mm2: Floats | None  # [element], in the array's order


def surface_of(mask: Mask, spacing_mm: Sequence[float], kind: SurfaceKind) -> Surface:
    """By voxel those that `boundary_voxels` gives, by area the corners between voxels."""
    if kind == "voxel":
        return Surface(boundary_voxels(mask), None)
    codes = _corner_codes(mask)
    elements = (codes > 0) & (codes < 2**2**mask.ndim - 1)
    return Surface(elements, element_areas(tuple(spacing_mm))[codes[elements]])


def surface_distances(
    one: Surface, other: Surface, spacing_mm: Sequence[float]
) -> tuple[Distances, Distances]:
    """From each of two surfaces to the other; neither may be empty."""
    there = nearest_distances(one.elements, other.elements, spacing_mm)
    back = nearest_distances(other.elements, one.elements, spacing_mm)
    return Distances(there, one.areas_mm2), Distances(back, other.areas_mm2)


def boundary_voxels(mask: Mask) -> Mask:
    """Voxels of a mask that have a face neighbour outside: the mask less its erosion."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        here, there = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[0] = here[-1] = False
    return mask & ~inside


def nearest_distances(here: Mask, there: Mask, spacing_mm: Sequence[float]) -> Floats:
    """How far each voxel of one mask is from the nearest of another, in the array's order.

    Exact to double precision, since distances often equal a tolerance to the last digit.
    """
    distances_mm = np.zeros(np.count_nonzero(here))
    apart = here & ~there
    steps_mm = (np.argwhere(apart) - _nearest(apart, there, spacing_mm)) * np.asarray(spacing_mm)
    distances_mm[apart[here]] = np.sqrt((steps_mm**2).sum(axis=1))
    return distances_mm


def _nearest(places: Mask, targets: Mask, spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """Where the nearest target is of each place: [place, axis]."""
    if np.count_nonzero(targets) > DENSE * targets.size:
        everywhere = ndimage.distance_transform_edt(
            ~targets, sampling=spacing_mm, return_distances=False, return_indices=True
        )
        return np.asarray(everywhere[:, places].T, np.int64)
    from scipy.spatial import KDTree  # takes half a second to import

    indices = np.argwhere(targets)
    tree = KDTree(indices * spacing_mm, balanced_tree=False, compact_nodes=False)
    return np.asarray(indices[tree.query(np.argwhere(places) * spacing_mm)[1]])


def _corner_codes(mask: Mask) -> NDArray[np.uint8]:
    """At each corner between voxels, which of the 8 (or 4) around it are inside, one bit each."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([size + 1 for size in mask.shape], np.uint8)
    for bit, offset in enumerate(product((0, 1), repeat=mask.ndim)):
        part = tuple(slice(o, o + size) for o, size in zip(offset, codes.shape, strict=True))
        codes |= padded[part] << np.uint8(bit)
    return codes


@cache
def element_areas(spacing_mm: tuple[float, ...]) -> Floats:
    """Area in mm² of the surface around a corner, by which of the 8 voxels are inside.

    The surface is that of marching cubes (Lorensen and Cline 1987) between voxels' centres, halfway
    from each voxel that is inside to each neighbour that is not. In a single slice it is a line of
    some length, by 4 voxels.
    """
    voxel_mm = np.asarray(spacing_mm)
    areas = np.zeros(2**2 ** len(spacing_mm))
    for code in range(1, len(areas) - 1):
        normals = _line_normals(code) if len(spacing_mm) == 2 else _triangle_normals(code)
        # Stretching an axis by its spacing stretches the parts of areas across the others.
        areas[code] = np.linalg.norm(normals * (voxel_mm.prod() / voxel_mm), axis=1).sum()
    return areas


def _line_normals(code: int) -> Floats:
    """Of the lines between 2 x 2 voxels, as long as those are: [line, (y, x)].

    A voxel that is alone, inside or outside, is cut off by a line from edge to edge.
    """
    inside = np.array([code >> bit & 1 for bit in range(4)]).reshape(2, 2)
    if inside.sum() == 2:
        rows, columns = inside.sum(axis=1), inside.sum(axis=0)
        if 2 in rows:
            return np.array([[1.0, 0.0]])
        return np.array([[0.0, 1.0]] if 2 in columns else [[0.5, 0.5], [0.5, 0.5]])
    return np.array([[0.5, 0.5]])


@cache
def _triangle_normals(code: int) -> Floats:
    """Of the triangles between 2 x 2 x 2 voxels, as long as their areas: [triangle, (z, y, x)].

    The surface of a mask is that of its complement, so of more than 4 voxels those outside are
    enclosed; where faces are ambiguous that separates the fewer.
    """
    if code.bit_count() > 4:
        return _triangle_normals(255 - code)
    from skimage.measure import marching_cubes  # takes a while to import

    inside = np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
    corners, triangles, _, _ = marching_cubes(inside, 0.5, method="lorensen")
    first, second, third = np.moveaxis(corners.astype(np.float64)[triangles], 1, 0)
    return np.asarray(np.cross(second - first, third - first) / 2)
