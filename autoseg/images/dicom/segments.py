"""DICOM SEG as label maps: binary, fractional and label map (PS3.3 A.51, C.8.20)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.images.dicom.headers import Frame, Instance, read_header, refuse_unreadable
from autoseg.images.dicom.opening import open_dataset
from autoseg.images.dicom.references import names_in, numbers_of, stack_behind
from autoseg.images.dicom.stacks import LPS_TO_RAS, stacks_of
from autoseg.images.raw import FrameSource, Oddity, RawImage, nifti_header_of, place

ON_GRID_VOX = 0.05  # how far a frame's corners may be from a slice's
ALIKE_SHARE = 0.5  # of the largest fraction, from which a voxel belongs to a segment


def read_seg(path: Path) -> RawImage:
    """A label map [1, z, y, x] on the grid of the series that the SEG refers to.

    On a grid of its own frames where that series is not there, or is of another grid. Raises
    AutosegError where frames do not lie on one grid.
    """
    instance = refuse_unreadable(read_header(path))
    values, oddities = numbers_of(path, names_in(instance))
    data = open_dataset(path)
    grid, sources, slice_of = _places(path, instance)
    labels = np.zeros(grid.shape_vox, np.min_scalar_type(max(values.values(), default=1)))
    if data.SegmentationType == "LABELMAP":
        overlap = 0
        for index, frame in enumerate(_values(instance, data)):
            for number, value in values.items():
                labels[slice_of[index]][frame == number] = value
    else:
        overlap = _paint(labels, instance, data, slice_of, values)
    if overlap:
        what = (
            f"has segments that overlap in {overlap} voxels; those have the smallest one's number."
        )
        oddities = (*oddities, Oddity("overlap", what, "Declare regions, or part the segments."))
    return RawImage(
        labels[None],
        place(path, labels[None], grid.affine_ras_mm),
        nifti_header_of(grid.affine_ras_mm),
        oddities=oddities,
        sources=sources,
    )


def _paint(
    labels: NDArray[Any],
    instance: Instance,
    data: Any,
    slice_of: list[int],
    values: dict[int, int],
) -> int:
    """Fill a label map frame by frame; how many voxels belong to several segments.

    Of fractions the largest wins, and else the smallest segment: a tumour lies within its organ.
    """
    is_binary = data.SegmentationType == "BINARY"
    half = 1.0 if is_binary else ALIKE_SHARE * int(data.MaximumFractionalValue)
    numbers = [_segment_of(data, index) for index in range(len(instance.frames))]
    sizes: Counter[int] = Counter()
    if is_binary:
        for number, frame in zip(numbers, _values(instance, data), strict=True):
            sizes[number] += int(np.count_nonzero(frame))
    rank = {n: i for i, (n, _) in enumerate(sizes.most_common(), 1)}
    best = np.zeros(labels.shape, np.uint16)
    overlap = 0
    for number, z, frame in zip(numbers, slice_of, _values(instance, data), strict=True):
        if number not in values:
            continue
        there = frame >= half
        overlap += int(np.count_nonzero(there & (labels[z] > 0)))
        strength = rank[number] if is_binary else frame
        wins = there & (strength >= best[z])
        labels[z][wins] = values[number]
        np.copyto(best[z], strength, where=wins)
    return overlap if is_binary else 0


def _segment_of(data: Any, index: int) -> int:
    """The number of the segment that a frame shows."""
    own = data.PerFrameFunctionalGroupsSequence[index]
    shared = data.SharedFunctionalGroupsSequence[0]
    named = own if "SegmentIdentificationSequence" in own else shared
    return int(named.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _values(instance: Instance, data: Any) -> Iterator[NDArray[Any]]:
    """Frames [row, column], one at a time."""
    rows, columns = instance.shape
    if data.BitsAllocated != 1 or data.file_meta.TransferSyntaxUID.is_compressed:
        from pydicom.pixels.utils import iter_pixels

        yield from iter_pixels(data, raw=True)
        return
    size = rows * columns
    packed = np.frombuffer(data.PixelData, np.uint8)
    for index in range(len(instance.frames)):
        first, last = index * size, (index + 1) * size
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + size].reshape(rows, columns)


def _places(
    path: Path, instance: Instance
) -> tuple[Grid, tuple[FrameSource | None, ...], list[int]]:
    """The grid that frames lie on, where its slices come from, and the slice of each frame."""
    behind = stack_behind(instance)
    if behind is not None:
        slice_of = slices_on(behind.grid, instance)
        if slice_of is not None:
            sources = tuple(None if one is None else one.source for one in behind.slices)
            return behind.grid, sources, slice_of
    grid = _own_grid(path, instance)
    slice_of = slices_on(grid, instance)
    if slice_of is None:
        raise AutosegError(f"{path}: its frames do not lie on one grid. Export it again.")
    return grid, (), slice_of


def _own_grid(path: Path, instance: Instance) -> Grid:
    """The grid of a SEG's own frames, those without anything in them left out by its writer too."""
    places: dict[tuple[float, ...] | None, Frame] = {}
    for frame in instance.frames:
        key = None if frame.position_mm is None else tuple(round(mm, 3) for mm in frame.position_mm)
        places.setdefault(key, frame)
    stacks = stacks_of([_with_frames(instance, tuple(places.values()))])
    if len(stacks) != 1 or stacks[0].affine_ras_mm is None or None in places:
        raise AutosegError(f"{path}: its frames do not lie on one grid. Export it again.")
    return stacks[0].grid


def _with_frames(instance: Instance, frames: tuple[Frame, ...]) -> Instance:
    return replace(instance, frames=frames)


def slices_on(grid: Grid, instance: Instance) -> list[int] | None:
    """The slice of a grid that each frame lies on; None where one lies elsewhere."""
    if instance.shape != grid.shape_vox[1:]:
        return None
    to_index = np.linalg.inv(grid.affine_ras_mm)
    rows, columns = instance.shape
    found = []
    for frame in instance.frames:
        corners = _corners_ras_mm(frame, rows, columns)
        if corners is None:
            return None
        x, y, z = (to_index @ corners)[:3]
        k = round(float(z[0]))
        expected = np.array([[0, columns - 1, 0], [0, 0, rows - 1], [k, k, k]])
        if abs(np.array([x, y, z]) - expected).max() > ON_GRID_VOX:
            return None
        if not 0 <= k < grid.shape_vox[0]:
            return None
        found.append(k)
    return found


def _corners_ras_mm(frame: Frame, rows: int, columns: int) -> NDArray[np.float64] | None:
    """The centres of the first voxel, the first row's last, and the last row's first [4, 3]."""
    if frame.position_mm is None or frame.orientation is None or frame.spacing_mm is None:
        return None
    origin = np.array(frame.position_mm)
    along_row = np.array(frame.orientation[:3]) * frame.spacing_mm[1] * (columns - 1)
    along_column = np.array(frame.orientation[3:]) * frame.spacing_mm[0] * (rows - 1)
    points = np.stack([origin, origin + along_row, origin + along_column], axis=1)
    ras: NDArray[np.float64] = LPS_TO_RAS @ np.vstack([points, np.ones(3)])
    return ras
