"""What rules may look at, as one typed record."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from autoseg.geometry import CANONICAL_AXES, Orientation, canonical_order
from autoseg.inspection.consistency import side_pairs
from autoseg.inspection.fingerprint import ClassStats, Fingerprint
from autoseg.machine import ANY_GPU, Machine
from autoseg.planning.model_plan import ConfigurationName

FactValue = str | float | int | bool

THICK_SLICES = 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of data, machine and configuration, then what the search has found so far.

    The fields from `channel_name` on are known only to some decisions; a rule that looks at one
    which is not known yet does not match.
    """

    configuration: ConfigurationName
    case_count: int
    channel_count: int
    class_count: int  # as declared, with background and ignore label
    median_crop_fraction: float
    median_spacing_ratio: float
    spacing_spread: float  # how far cases deviate from the median spacing, on the worst axis
    only_slices: bool  # no case has any depth
    slice_directions: int  # anatomical directions that thick slices are stacked along
    smallest_class: str
    smallest_class_foreground_fraction: float
    smallest_class_part_of_equal_share: float  # of what it had if classes shared the foreground
    smallest_class_image_fraction: float
    smallest_class_component_vox: float  # its median component, in voxels of the median spacing
    largest_class_component_vox: float  # the 95th percentile one, of the class where it is largest
    has_regions: bool
    has_ignore_label: bool
    left_right_pairs: int
    has_things: bool  # classes whose objects count one by one
    has_border: bool  # label files number objects, so that a border between them can be learned
    touching_fraction: float  # of objects, those that touch another
    objects_in_scan: float  # the median of scans
    object_size_spread: float  # diameter of the 95th percentile by that of the 5th
    object_solidity: float  # the median share of its convex hull that an object fills
    small_thing_mm: float  # the 5th percentile of their diameters, of the class where it is least
    smallest_object_vox: float  # width of the 5th percentile one, or component, of any class
    device: Literal["cpu", "gpu"]
    gpu_memory_gib: float  # what may be planned for: without what others use
    memory_given: bool  # by --for, and not read from this machine
    cores: int
    memory_gib: float
    bf16: bool
    hours_given: bool = False  # by --hours, for a fold
    channel_name: str | None = None
    channel_is_ct: bool | None = None  # as its name says in other words than `ct` too
    patch_fraction_of_median_image: float | None = None
    lowres_helps: bool | None = None

    def known(self) -> dict[str, FactValue]:
        """Every fact that has a value, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def with_known(self, **found: Any) -> "Facts":
        """A copy that knows more."""
        return replace(self, **found)


def _plain_type(hint: Any) -> type:
    """The type of a fact, without `None` and with the type of its literals."""
    for option in get_args(hint) or (hint,):
        if isinstance(option, str):
            return str
        if isinstance(option, type) and option is not type(None):
            return option
    raise AssertionError(hint)


FACT_NAMES = tuple(field.name for field in fields(Facts))
FACT_TYPES = {name: _plain_type(hint) for name, hint in get_type_hints(Facts).items()}


def gather_facts(
    fingerprint: Fingerprint, machine: Machine, configuration: ConfigurationName
) -> Facts:
    """The facts that are known before any decision is made."""
    crop_fractions = [
        np.prod(case.cropped_shape_vox) / np.prod(case.shape_vox) for case in fingerprint.cases
    ]
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])  # [case, axis]
    median = np.median(spacings, axis=0)
    present = _told_apart(fingerprint)
    smallest = min(present, key=lambda stats: stats.foreground_fraction)
    voxel_mm3 = float(np.prod(_tissue_spacing_mm(fingerprint)))
    return Facts(
        configuration=configuration,
        case_count=len(fingerprint.cases),
        channel_count=len(fingerprint.channel_names),
        class_count=fingerprint.labels.declared_count,
        median_crop_fraction=float(np.median(crop_fractions)),
        median_spacing_ratio=float(median.max() / median.min()),
        spacing_spread=float(np.abs(spacings / median - 1).max()),
        only_slices=all(min(case.shape_vox) == 1 for case in fingerprint.cases),
        slice_directions=_slice_directions(fingerprint),
        smallest_class=smallest.name,
        smallest_class_foreground_fraction=smallest.foreground_fraction,
        smallest_class_part_of_equal_share=smallest.foreground_fraction * len(present),
        smallest_class_image_fraction=smallest.image_fraction,
        smallest_class_component_vox=smallest.component_volume_mm3_median / voxel_mm3,
        largest_class_component_vox=max(s.component_volume_mm3_p95 for s in present) / voxel_mm3,
        has_regions=bool(fingerprint.labels.regions),
        has_ignore_label=fingerprint.labels.ignore is not None,
        has_border=fingerprint.labels.instances,
        **_object_facts(fingerprint),
        small_thing_mm=_small_thing_mm(fingerprint),
        smallest_object_vox=_smallest_object_vox(fingerprint),
        left_right_pairs=len(side_pairs(fingerprint.labels.all_names())),
        device=machine.device,
        gpu_memory_gib=machine.gpu_planned_gib,
        memory_given=machine.gpu_name == ANY_GPU,
        cores=machine.cores,
        memory_gib=machine.memory_gib,
        bf16=machine.bf16,
    )


def _told_apart(fingerprint: Fingerprint) -> Sequence[ClassStats]:
    """Classes that somebody annotated, if any; a border that was made between objects is none."""
    own = fingerprint.classes[:-1] if fingerprint.labels.instances else fingerprint.classes
    return [stats for stats in own if stats.case_fraction > 0] or own


def _object_facts(fingerprint: Fingerprint) -> dict[str, Any]:
    """Of the class of things whose objects touch most; convex and alike where there are none."""
    known = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    if not known:
        return {
            "has_things": bool(fingerprint.labels.things),
            "touching_fraction": 0.0,
            "objects_in_scan": 0.0,
            "object_size_spread": 1.0,
            "object_solidity": 1.0,
        }
    most = max(known, key=lambda objects: objects.touching_fraction)
    return {
        "has_things": True,
        "touching_fraction": most.touching_fraction,
        "objects_in_scan": most.per_scan_median,
        "object_size_spread": most.diameter_mm_p95 / most.diameter_mm_p05,
        "object_solidity": 1.0 if most.solidity is None else most.solidity,
    }


def _smallest_object_vox(fingerprint: Fingerprint) -> float:
    """The width of a small object in voxels of the median spacing, as if it were a ball.

    Of things it is their diameter; of other classes that of balls as large as their components.
    """
    widths_mm = [
        2 * np.cbrt(0.75 * stats.component_volume_mm3_p05 / np.pi)
        if stats.objects is None
        else stats.objects.diameter_mm_p05
        for stats in _told_apart(fingerprint)
        if stats.case_fraction > 0
    ]
    spacing_mm = np.prod(_tissue_spacing_mm(fingerprint)) ** (1 / 3)
    return float(min(widths_mm, default=0.0) / spacing_mm)


def _small_thing_mm(fingerprint: Fingerprint) -> float:
    objects = [stats.objects for stats in fingerprint.classes if stats.objects is not None]
    return min((stats.diameter_mm_p05 for stats in objects), default=0.0)


def _tissue_spacing_mm(fingerprint: Fingerprint) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The median spacing; across single slices, whose distance nobody knows, that of the plane."""
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    lone = np.array([np.array(case.shape_vox) == 1 for case in fingerprint.cases])
    spacings[lone] = np.repeat(spacings.min(axis=1), lone.sum(axis=1))
    median: np.ndarray[Any, np.dtype[np.float64]] = np.median(spacings, axis=0)
    return median


def _slice_directions(fingerprint: Fingerprint) -> int:
    """Along how many anatomical directions cases with thick slices, or a single one, are stacked.

    Slices are thick when they are at least twice as far apart as the next coarsest axis.
    """
    directions = set()
    for case in fingerprint.cases:
        finer, coarse = sorted(case.spacing_mm)[-2:]
        if coarse >= THICK_SLICES * finer:
            code = case.axis_codes[case.spacing_mm.index(coarse)]
            directions.add(next(pair for pair in CANONICAL_AXES if code in pair))
    return len(directions)


def oriented_grids(
    fingerprint: Fingerprint, orientation: Orientation
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Spacings in mm and cropped shapes of all cases, [case, axis], in the plan's orientation."""
    spacings, shapes = [], []
    for case in fingerprint.cases:
        order = (0, 1, 2) if orientation == "as_stored" else canonical_order(case.axis_codes)
        spacings.append([case.spacing_mm[axis] for axis in order])
        shapes.append([case.cropped_shape_vox[axis] for axis in order])
    return np.array(spacings), np.array(shapes)


def object_sizes_mm(
    fingerprint: Fingerprint, orientation: Orientation
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sides of boxes around a sample of all objects in mm [object, axis], in the plan's
    orientation."""
    sizes = [np.zeros((0, 3))]
    for case in fingerprint.cases:
        order = (0, 1, 2) if orientation == "as_stored" else canonical_order(case.axis_codes)
        own = np.array(case.object_sizes_vox, float).reshape(-1, 3) * np.array(case.spacing_mm)
        sizes.append(own[:, order])
    return np.concatenate(sizes)


def left_right_axis(fingerprint: Fingerprint, orientation: Orientation) -> int | None:
    """The axis from left to right, in the plan's orientation; None where scans differ in it."""
    if orientation == "canonical":
        return CANONICAL_AXES.index("LR")
    axes = {
        next(axis for axis, code in enumerate(case.axis_codes) if code in "LR")
        for case in fingerprint.cases
    }
    return axes.pop() if len(axes) == 1 else None
