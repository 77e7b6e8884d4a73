"""From scans as stored to arrays on a plan's grid: reorient, crop, normalise, resample, store."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import OUTSIDE, LabelScheme
from autoseg.dataset.objects import read_objects
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError
from autoseg.geometry import Box, Grid, Placement, plan_axes, resampled_shape
from autoseg.images.foreground import bounding_box, nonzero_mask
from autoseg.images.formats import files_of
from autoseg.inspection.statistics import CaseStats
from autoseg.machine import GIB, free_memory_gib
from autoseg.parallel import MemoryBudget, Progress, map_cases, silent
from autoseg.planning.cost import prepared_voxels
from autoseg.planning.grid_plan import GridPlan
from autoseg.preprocessing.locations import sample_locations
from autoseg.preprocessing.normalize import normalize
from autoseg.preprocessing.resample import (
    resample_classes,
    resample_image,
    resample_numbers,
    separate_axis,
)
from autoseg.preprocessing.store import (
    SUFFIX,
    PreparedCase,
    SourceFile,
    is_stored,
    write_case,
)
from autoseg.preprocessing.tilt import tilt_of

FORMAT_VERSION = 5

# Memory at the peak: of a worker without a case; by voxel whatever the channels, and by channel.
WORKER_GIB = 0.15
BYTES_PER_SOURCE_VOXEL = (10, 8)
BYTES_PER_TARGET_VOXEL = (16, 8)


def preparation_hash(grid: GridPlan, labels: LabelScheme) -> str:
    """A short hash of just those settings that change what is prepared."""
    content = {
        "format": FORMAT_VERSION,
        "labels": labels.model_dump(
            mode="json", include={"values", "ignore", "instances", "regions", "things"}
        ),
        "grid": grid.model_dump(mode="json"),
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """A grid to put cases on, and the folder to keep them in."""

    grid: GridPlan
    folder: Path

    def path(self, case_id: str) -> Path:
        """The file of a prepared case."""
        return self.folder / f"{case_id}{SUFFIX}"


def prepare_cases(
    cases: Sequence[Case],
    labels: LabelScheme,
    targets: Sequence[Target],
    workers: int,
    progress: Progress = silent,
    budget: MemoryBudget | None = None,
) -> int:
    """Prepare the cases that a folder lacks, or whose files changed; how many cases that was.

    A case is read once for all its targets. One without files, since the dataset is away, is taken
    as it is stored. Raises AutosegError naming every case that failed; the
    others are stored.
    """
    stale = {}
    for case in cases:
        sources = source_files(case)
        missing = [t for t in targets if not is_stored(t.path(case.case_id), sources)]
        if missing:
            stale[case.case_id] = (case, labels, missing)
    if stale:
        map_cases(_prepare_and_store, stale, workers, progress, "preparing cases", budget)
    return len(stale)


def expected_memory_gib(case: CaseStats, channel_count: int, targets: Sequence[Target]) -> float:
    """Memory that a worker needs for a case at its peak, in GiB."""
    source_vox = prod(case.shape_vox)
    peak = BYTES_PER_SOURCE_VOXEL[0] + BYTES_PER_SOURCE_VOXEL[1] * channel_count
    bytes_per_voxel = BYTES_PER_TARGET_VOXEL[0] + BYTES_PER_TARGET_VOXEL[1] * channel_count
    largest = max(prepared_voxels(case, target.grid) for target in targets) * bytes_per_voxel
    return WORKER_GIB + (source_vox * peak + largest) / GIB


def prepare_scan(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8] | None,
    grid: Grid,
    plan: GridPlan,
    case_id: str,
    regions: Sequence[tuple[int, ...]] = (),
) -> PreparedCase:
    """Put one scan [channel, z, y, x], and its class indices [z, y, x] if it has any, on the grid.

    The same function serves training and prediction. `case_id` seeds the sample of locations, of
    classes or of `regions`.
    """
    flipped, order = plan_axes(grid.axis_codes, plan.orientation, plan.axis_order)
    mask = nonzero_mask(image)
    source_crop = bounding_box(mask)
    placement = _place(grid, flipped, order, source_crop, plan)
    _check_memory(placement, len(image), case_id)
    # A copy, since normalising works in place.
    image = placement.to_plan_axes(image)[:, *placement.crop.slices].copy()
    mask = np.ascontiguousarray(placement.to_plan_axes(mask)[placement.crop.slices])
    if classes is not None:
        classes = np.ascontiguousarray(placement.to_plan_axes(classes)[placement.crop.slices])
        mask = mask | (classes > 0)
    # Normalise before resampling: interpolated edges would shift the mask.
    normalize(image, mask, plan.normalization)
    _check_finite(image, case_id)
    label, outside = _resample_label(classes, mask, placement, plan)
    separate = _separate_axis(placement, plan)
    located = sample_locations(label, regions, case_id)
    return PreparedCase(
        image=resample_image(
            image, placement.resampled_shape_vox, plan.resampling.image_order, separate
        ),
        label=label,
        outside_mask=outside if any(c.masked for c in plan.normalization) else None,
        class_locations=located.classes,
        annotated_locations=located.annotated,
        placement=placement,
    )


def _check_memory(placement: Placement, channels: int, case_id: str) -> None:
    """Raises AutosegError where the resampled scan alone is more than all memory that is free."""
    shape, free_gib = placement.resampled_shape_vox, free_memory_gib()
    needed_gib = prod(shape) * (4 * channels + 1) / GIB
    if needed_gib <= free_gib:
        return
    from_mm, to_mm = (
        " x ".join(f"{mm:.4g}" for mm in spacing)
        for spacing in (placement.source_spacing_mm, placement.target_spacing_mm)
    )
    raise AutosegError(
        f"{case_id}: resampled from {from_mm} mm to {to_mm} mm it would be "
        f"{' x '.join(map(str, shape))} voxels, {needed_gib:.0f} GiB, where {free_gib:.0f} GiB are "
        "free. Correct the spacing in its header (is the unit wrong?), or leave the case out."
    )


def _check_finite(normalized: NDArray[np.float32], case_id: str) -> None:
    """Raises AutosegError where intensities were too large for single precision."""
    if not np.isfinite(normalized.sum(dtype=np.float64)):
        raise AutosegError(
            f"{case_id}: its intensities are so large that they cannot be normalised. Correct the "
            "voxels of extreme values (`autoseg check DATASET`), or leave the case out."
        )


def place_mask(
    classes: NDArray[np.uint8], placement: Placement, plan: GridPlan
) -> NDArray[np.uint8]:
    """Class indices on a scan's own grid, put on the plan's grid as the scan was."""
    cropped = placement.to_plan_axes(classes)[placement.crop.slices]
    return resample_classes(
        np.ascontiguousarray(cropped),
        placement.resampled_shape_vox,
        plan.resampling.label_order,
        _separate_axis(placement, plan),
    )


def with_objects(
    prepared: PreparedCase, numbers: NDArray[np.unsignedinteger[Any]], classes: Sequence[int]
) -> PreparedCase:
    """A prepared scan with its objects, numbered [z, y, x] on its own grid, where the label has one
    of their classes; no number is mixed of others."""
    assert prepared.label is not None
    placement = prepared.placement
    cropped = placement.to_plan_axes(numbers)[placement.crop.slices]
    return replace(prepared, objects=resample_numbers(cropped, np.isin(prepared.label, classes)))


def source_files(case: Case) -> tuple[SourceFile, ...]:
    """Size and time of every file of a case. Raises AutosegError when one is gone."""
    files = []
    named = (*case.files(), *case.label_files())
    for path in (part for file in named for part in files_of(file)):
        try:
            files.append(source_file(path))
        except OSError as error:
            raise AutosegError(f"{case.case_id}: {path}: {error.strerror}.") from None
    return tuple(files)


def source_file(path: Path) -> SourceFile:
    """Size and time of a file. Raises OSError when it is gone."""
    status = path.stat()
    return SourceFile(
        path=os.fspath(path), size_bytes=status.st_size, modified_ns=status.st_mtime_ns
    )


def _prepare_and_store(item: tuple[Case, LabelScheme, Sequence[Target]]) -> None:
    case, labels, targets = item
    sources = source_files(case)
    image, label = read_case(case)
    classes = labels.encode(label.array)
    del label
    numbers = read_objects(case, image, classes, labels)
    array, grid = image.array, image.grid
    tilt = tilt_of(grid)
    if tilt is not None:
        array, grid = tilt.set_upright(array), tilt.upright
        classes = tilt.labels_upright(classes)
        numbers = None if numbers is None else tilt.labels_upright(numbers)
    for target in targets:
        prepared = prepare_scan(
            array, classes, grid, target.grid, case.case_id, labels.region_classes()
        )
        if numbers is not None:
            prepared = with_objects(prepared, numbers, labels.thing_classes)
        write_case(target.path(case.case_id), prepared, sources, target.grid.spatial_dims)


def _place(
    grid: Grid,
    flipped: tuple[int, ...],
    order: tuple[int, int, int],
    source_crop: Box,
    plan: GridPlan,
) -> Placement:
    start, stop = list(source_crop.start), list(source_crop.stop)
    for axis in flipped:
        size = grid.shape_vox[axis]
        start[axis], stop[axis] = size - stop[axis], size - start[axis]
    crop = Box(start=tuple(start[a] for a in order), stop=tuple(stop[a] for a in order))
    a, b, c = order
    slices = plan.spatial_dims == 2
    source_mm = grid.planning_spacing_mm if slices else grid.spacing_mm
    spacing_mm = (source_mm[a], source_mm[b], source_mm[c])
    target_mm = plan.spacing_mm(spacing_mm)
    z, y, x = crop.shape
    shape_vox = resampled_shape((z, y, x), spacing_mm, target_mm)
    off = max(abs(old / new - 1) for old, new in zip(spacing_mm, target_mm, strict=True))
    if off <= plan.resampling.keep_within:
        shape_vox = (z, y, x)
    return Placement(
        source_shape_vox=grid.shape_vox,
        flipped_axes=flipped,
        axis_order=order,
        crop=crop,
        resampled_shape_vox=shape_vox,
        source_spacing_mm=spacing_mm,
        target_spacing_mm=target_mm,
    )


def _separate_axis(placement: Placement, plan: GridPlan) -> int | None:
    ratio = plan.resampling.separate_axis_ratio
    return separate_axis(placement.source_spacing_mm, placement.target_spacing_mm, ratio)


def _resample_label(
    classes: NDArray[np.uint8] | None,
    mask: NDArray[np.bool_],
    placement: Placement,
    plan: GridPlan,
) -> tuple[NDArray[np.uint8] | None, NDArray[np.bool_] | None]:
    """Class indices and outside mask on the plan's grid.

    The outside competes with the classes for each voxel, and is then kept apart from them.
    """
    if classes is None:
        return None, None
    with_outside = np.where(mask, classes, np.uint8(OUTSIDE))
    resampled = resample_classes(
        with_outside,
        placement.resampled_shape_vox,
        plan.resampling.label_order,
        _separate_axis(placement, plan),
    )
    outside = resampled == OUTSIDE
    return np.where(outside, np.uint8(0), resampled), outside
