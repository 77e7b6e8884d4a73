"""One scan put on a plan's grid: cropped, normalised, resampled."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import OUTSIDE
from autoseg.errors import AutosegError
from autoseg.geometry import Box, Grid, Placement, plan_axes, resampled_shape
from autoseg.images.foreground import bounding_box, nonzero_mask
from autoseg.machine import GIB, free_memory_gib
from autoseg.planning.grid_plan import GridPlan
from autoseg.preprocessing.locations import sample_locations
from autoseg.preprocessing.normalize import normalize
from autoseg.preprocessing.prepared_case import PreparedCase
from autoseg.preprocessing.resample import (
    resample_classes,
    resample_image,
    resample_numbers,
    separate_axis,
)


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
