"""RTSTRUCT as label maps, and outlines of masks that give the same voxels back (PS3.3 A.19)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Grid
from autoseg.images.dicom.headers import read_header, refuse_unreadable
from autoseg.images.dicom.opening import open_dataset
from autoseg.images.dicom.references import (
    names_in,
    numbers_of,
    refuse_unplaced,
    stack_behind,
)
from autoseg.images.dicom.stacks import LPS_TO_RAS
from autoseg.images.raw import Oddity, RawImage, nifti_header_of, place

OFF_SLICE = 0.25  # of the distance between slices, how far off one a contour may lie
Polygon = NDArray[np.float64]  # [point, (x, y)] in voxels of a slice


def read_rtstruct(path: Path) -> RawImage:
    """A label map [1, z, y, x] on the grid of the series that contours were drawn on.

    A voxel belongs to a structure if its centre lies within an odd number of its contours in a
    slice, so that holes are holes, whether drawn as contours of their own or by a keyhole. Where
    structures overlap the smallest counts: a tumour is drawn within its organ. Raises AutosegError
    where the series is not there.
    """
    instance = refuse_unreadable(read_header(path))
    behind = stack_behind(instance)
    if behind is None:
        raise refuse_unplaced(path, instance.referenced)
    values, oddities = numbers_of(path, names_in(instance))
    data = open_dataset(path)
    grid = behind.grid
    labels = np.zeros(grid.shape_vox, np.min_scalar_type(max(values.values(), default=1)))
    structures = [
        (int(one.ReferencedROINumber), *_inside(one, grid))
        for one in data.get("ROIContourSequence") or ()
        if int(one.ReferencedROINumber) in values
    ]
    overlap = 0
    for number, inside, _ in sorted(structures, key=lambda one: -np.count_nonzero(one[1])):
        overlap += int(np.count_nonzero(inside & (labels > 0)))
        labels[inside] = values[number]
    strays = sum(off for _, _, off in structures)
    return RawImage(
        labels[None],
        place(path, labels[None], grid.affine_ras_mm),
        nifti_header_of(grid.affine_ras_mm),
        oddities=(*oddities, *_odd(overlap, strays)),
        sources=tuple(None if one is None else one.source for one in behind.slices),
    )


def _odd(overlap: int, strays: int) -> Iterator[Oddity]:
    if overlap:
        what = (
            f"has structures that overlap in {overlap} voxels; those have the smallest one's value."
        )
        yield Oddity("overlap", what, "Declare in dataset.json only those that are to be learned.")
    if strays:
        what = f"has {strays} contours that lie on no slice of the series; they are left out."
        yield Oddity("stray_contours", what, "Draw it on the series that is beside it.")


def _inside(structure: Any, grid: Grid) -> tuple[NDArray[np.bool_], int]:
    """Voxels [z, y, x] within a structure, and how many of its contours lie on no slice."""
    inside = np.zeros(grid.shape_vox, np.bool_)
    to_index = np.linalg.inv(LPS_TO_RAS @ grid.affine_ras_mm)
    strays = 0
    for contour in structure.get("ContourSequence") or ():
        if not str(contour.ContourGeometricType).startswith("CLOSED_PLANAR"):
            continue  # points and open lines hold no voxels
        points = _points_mm(contour)
        x, y, z = (to_index @ np.vstack([points.T, np.ones(len(points))]))[:3]
        k = round(float(z.mean()))
        if abs(z - k).max() > OFF_SLICE or not 0 <= k < grid.shape_vox[0]:
            strays += 1
            continue
        _toggle(inside[k], np.stack([x, y], axis=1))
    return inside, strays


def _points_mm(contour: Any) -> NDArray[np.float64]:
    """The points [point, 3] of a contour; from its text, which pydicom takes minutes to parse."""
    text = contour.get_item("ContourData").value
    if not isinstance(text, bytes):
        return np.array(text, np.float64).reshape(-1, 3)
    return np.array(text.strip(b" \0").split(b"\\"), np.float64).reshape(-1, 3)


def _toggle(plane: NDArray[np.bool_], polygon: Polygon) -> None:
    """Turn over the voxels [y, x] whose centres lie within a polygon, by the even-odd rule."""
    height, width = plane.shape
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    first = max(0, int(np.ceil(polygon[:, 1].min())))
    for y in range(first, min(height, int(np.floor(polygon[:, 1].max())) + 1)):
        crossed = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        (x0, y0), (x1, y1) = starts[crossed].T, ends[crossed].T
        at = np.sort(x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        for left, right in zip(at[::2], at[1::2], strict=True):
            a, b = max(0, int(np.ceil(left))), min(width, int(np.ceil(right)))
            if b > a:
                plane[y, a:b] ^= True


def outlines(plane: NDArray[np.integer[Any]]) -> Iterator[tuple[int, Polygon]]:
    """Values of a label map [y, x] but 0, and a polygon around each piece of voxels that have one.

    It passes half-way between those voxels and the others, and has points only at its corners. A
    hole is cut out by a keyhole: a line to it and back, so that each polygon is closed and one.
    Pieces hang together by sides, not by corners, and so each has one outline.
    """
    from scipy.ndimage import find_objects
    from skimage.measure import find_contours, label

    pieces = label(plane, background=0, connectivity=1)
    for number, box in enumerate(find_objects(pieces), 1):
        part = np.pad(pieces[box] == number, 1)
        shift = (box[1].start - 1, box[0].start - 1)
        lines = [_corners(line[:-1, ::-1] + shift) for line in find_contours(part, 0.5)]
        [outer] = [line for line in lines if _area(line) > 0]
        holes = [line for line in lines if _area(line) < 0]
        for hole in sorted(holes, key=lambda line: line[:, 0].min()):
            outer = _keyhole(outer, hole)
        y, x = np.argwhere(part)[0]
        yield int(plane[y + shift[1], x + shift[0]]), outer


def _corners(polygon: Polygon) -> Polygon:
    """A polygon without the points that lie on a straight line between their neighbours."""
    came = polygon - np.roll(polygon, 1, axis=0)
    goes = np.roll(polygon, -1, axis=0) - polygon
    corners: Polygon = polygon[came[:, 0] * goes[:, 1] != came[:, 1] * goes[:, 0]]
    return corners


def _area(polygon: Polygon) -> float:
    """Signed, and positive around voxels that are in a mask, as find_contours walks."""
    x, y = polygon.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _keyhole(outer: Polygon, hole: Polygon) -> Polygon:
    """One polygon of an outline and a hole, joined at the corners that are nearest."""
    from scipy.spatial import KDTree

    apart, nearest = KDTree(outer).query(hole)
    j = int(np.argmin(apart))
    i = int(nearest[j])
    there = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([outer[: i + 1], there, outer[i:]])
