"""What is chosen for one configuration, part by part: the grid, the run, and how to predict."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Orientation, Shape3
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.inspection.hounsfield import means_ct
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import (
    AUGMENTATION,
    AXIS_ORDER,
    BATCH_DICE,
    BATCH_SIZE,
    FOREGROUND_INTENSITY,
    LOSS,
    MEMORY,
    MIRROR_AXES,
    NORMALIZATION,
    NORMALIZATION_MASK,
    ORIENTATION,
    TARGET_SPACING,
    AugmentationSettings,
    ClassWeighting,
)
from autoseg.planning.facts import left_right_axis, oriented_grids
from autoseg.planning.grid_plan import ChannelNormalization, GridPlan
from autoseg.planning.run_plan import AugmentationPlan, LossPlan
from autoseg.planning.search import (
    FoundPatch,
    PatchSearch,
    find_target_spacing,
)


@dataclass(frozen=True, slots=True)
class MedianGrid:
    """Target spacing and median scan in the plan's axis order."""

    orientation: Orientation
    axis_order: Shape3
    target_mm: tuple[float, ...]
    median_vox: tuple[float, ...]
    left_right_axis: int | None  # of the plan's axes; None where it differs between scans


def choose_grid(fingerprint: Fingerprint, log: DecisionLog) -> MedianGrid:
    orientation = log.settings(ORIENTATION)
    spacings_mm, shapes_vox = oriented_grids(fingerprint, orientation)
    target_mm = find_target_spacing(spacings_mm, shapes_vox, log.settings(TARGET_SPACING))
    median_vox = _median_resampled_shape(spacings_mm, shapes_vox, target_mm)
    axis_order = _axis_order(target_mm, log.settings(AXIS_ORDER))
    log.conclude(AXIS_ORDER, axis_order)
    left_right = left_right_axis(fingerprint, orientation)
    return MedianGrid(
        orientation=orientation,
        axis_order=axis_order,
        target_mm=tuple(float(target_mm[axis]) for axis in axis_order),
        median_vox=tuple(float(median_vox[axis]) for axis in axis_order),
        left_right_axis=None if left_right is None else axis_order.index(left_right),
    )


def _median_resampled_shape(
    spacings_mm: NDArray[np.float64], shapes_vox: NDArray[np.int64], target_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The median shape at the target spacing, of single slices too.

    A slice thinner than half the target counts 0 here, as in the published heuristics, although it
    becomes a single one: else slices of unlike thickness would seem to be volumes.
    """
    resampled = np.rint(spacings_mm / target_mm * shapes_vox)
    median: NDArray[np.float64] = np.maximum(np.median(resampled, axis=0), 1)
    return median


def median_shape(fingerprint: Fingerprint, grid: GridPlan) -> tuple[float, ...]:
    """The median scan on a plan's grid, in its axis order."""
    spacings_mm, shapes_vox = oriented_grids(fingerprint, grid.orientation)
    order, target = list(grid.axis_order), grid.target_spacing_mm
    planned_mm, planned_vox = spacings_mm[:, order], shapes_vox[:, order]
    if len(target) == 2:  # slices keep their distance
        whole = np.array([np.median(planned_mm[:, 0]), *target])
    else:
        whole = np.array(target)
    shape = _median_resampled_shape(planned_mm, planned_vox, whole)
    return tuple(shape[-len(target) :].tolist())


def _axis_order(target_mm: NDArray[np.float64], choice: str) -> Shape3:
    if choice == "as_is":
        return (0, 1, 2)
    coarsest = int(np.argmax(target_mm))
    first, second = (axis for axis in range(3) if axis != coarsest)
    return coarsest, first, second


def choose_normalization(
    fingerprint: Fingerprint, log: DecisionLog
) -> tuple[ChannelNormalization, ...]:
    masked = log.settings(NORMALIZATION_MASK)
    with_ignore = log.settings(FOREGROUND_INTENSITY) == "with_ignore"
    intensity = fingerprint.foreground_intensity
    if with_ignore and fingerprint.intensity_with_ignore is not None:
        intensity = fingerprint.intensity_with_ignore
    channels = []
    for channel, statistics in zip(fingerprint.channel_names, intensity, strict=True):
        known = {"channel_name": channel.casefold(), "channel_is_ct": means_ct(channel)}
        kind = log.settings(NORMALIZATION, **known).kind
        log.conclude(NORMALIZATION, kind, channel_name=channel)
        channels.append(
            ChannelNormalization(
                channel=channel,
                kind=kind,
                masked=masked and kind == "zscore",
                statistics=statistics,
            )
        )
    return tuple(channels)


def choose_loss(
    fingerprint: Fingerprint, log: DecisionLog, fraction: float, lowres_helps: bool
) -> LossPlan:
    settings = log.settings(LOSS)
    batch_dice = log.settings(
        BATCH_DICE, patch_fraction_of_median_image=fraction, lowres_helps=lowres_helps
    )
    return LossPlan(
        **settings.model_dump(exclude={"class_weighting"}),
        batch_dice=batch_dice,
        class_weights=class_weights(fingerprint, settings.class_weighting),
    )


def class_weights(fingerprint: Fingerprint, weighting: ClassWeighting) -> tuple[float, ...] | None:
    """One weight for each class, the background first; 0 for a class that no scan has."""
    if weighting == "none":
        return None
    foreground = np.array([stats.image_fraction for stats in fingerprint.classes])
    frequency = np.array([1 - foreground.sum(), *foreground])
    if weighting == "median_frequency":  # in the scans that have the class
        share = np.array([1, *(stats.case_fraction for stats in fingerprint.classes)])
        frequency = np.divide(frequency, share, out=np.zeros_like(frequency), where=share > 0)
    present = frequency > 0
    inverse = np.divide(1, frequency, out=np.zeros_like(frequency), where=present)
    if weighting == "median_frequency":
        scale = float(np.median(frequency[present]))
    else:
        scale = 1 / float(inverse[present].mean())
    return tuple((inverse * scale).tolist())


def choose_batch_size(search: PatchSearch, patch: FoundPatch, cases: int, log: DecisionLog) -> int:
    settings = log.settings(BATCH_SIZE)
    exactly = search.reference_elements / patch.elements * search.patch.reference_batch
    fits = round(exactly) if settings.fill == "rest_of_memory" else int(exactly)
    if settings.fill == "whole_patch" and patch.shrunk:
        fits = min(fits, search.patch.fitting_batch)
    voxels = search.median_voxels * cases * settings.max_dataset_fraction
    share = round(voxels / float(np.prod(patch.size_vox)))
    batch_size = max(min(fits, share, settings.maximum or fits), settings.minimum)
    log.conclude(BATCH_SIZE, batch_size, fits_into_memory=fits, dataset_share_allows=share)
    return batch_size


def choose_memory_gib(log: DecisionLog, factor: float) -> float:
    settings = log.settings(MEMORY)
    if settings.fixed_gib is not None:
        memory_gib = settings.fixed_gib
    else:
        memory_gib = log.facts.gpu_memory_gib * (settings.gpu_fraction or 1.0)
    memory_gib = min(memory_gib, settings.at_most_gib or memory_gib) * factor
    log.conclude(MEMORY, memory_gib, measured_factor=factor)
    return memory_gib


def choose_mirror_axes(grid: MedianGrid, log: DecisionLog) -> tuple[int, ...]:
    """Axes of prepared scans to mirror; in two dimensions never across slices."""
    choice = log.settings(MIRROR_AXES)
    axes: tuple[int, ...] = (1, 2) if log.facts.configuration == "2d" else (0, 1, 2)
    if choice == "none" or (choice == "not_left_right" and grid.left_right_axis is None):
        axes = ()
    elif choice == "not_left_right":
        axes = tuple(axis for axis in axes if axis != grid.left_right_axis)
    log.conclude(MIRROR_AXES, axes)
    return axes


def augmentation_plan(
    settings: AugmentationSettings, patch: tuple[int, ...], mirror_axes: tuple[int, ...]
) -> AugmentationPlan:
    """The augmentation of patches of a size: in plane only where they are flat."""
    flat = len(patch) == 2
    planar = flat or max(patch) / patch[0] > settings.planar_ratio
    values = settings.model_dump(include=set(AugmentationPlan.model_fields))
    if flat and max(patch) / min(patch) > settings.elongated_slice_ratio:
        values["rotation_degrees"] = settings.elongated_slice_rotation_degrees
    elif planar:
        values["rotation_degrees"] = settings.planar_rotation_degrees
    return AugmentationPlan(planar=planar, mirror_axes=mirror_axes, **values)


def choose_augmentation(
    patch: tuple[int, ...], mirror_axes: tuple[int, ...], log: DecisionLog
) -> AugmentationPlan:
    plan = augmentation_plan(log.settings(AUGMENTATION), patch, mirror_axes)
    log.conclude(AUGMENTATION, plan.model_dump(mode="json"), patch_size_vox=patch)
    return plan
