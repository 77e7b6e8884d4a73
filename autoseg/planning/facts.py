"""What rules may look at, as one typed record."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from autoseg.fingerprint import Fingerprint
from autoseg.geometry import Orientation, canonical_order
from autoseg.machine import Machine
from autoseg.planning.plan import ConfigurationName

FactValue = str | float | int | bool


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of data, machine and configuration, then what the search has found so far.

    The fields from `channel_name` on are known only to some decisions; a rule that looks at one
    which is not known yet does not match.
    """

    configuration: ConfigurationName
    case_count: int
    channel_count: int
    class_count: int
    median_crop_fraction: float
    median_spacing_ratio: float
    smallest_class: str
    smallest_class_foreground_fraction: float
    device: Literal["cpu", "gpu"]
    gpu_memory_gb: float
    cores: int
    memory_gb: float
    bf16: bool
    channel_name: str | None = None
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
    spacing = np.median([case.spacing_mm for case in fingerprint.cases], axis=0)
    smallest = min(fingerprint.classes, key=lambda stats: stats.foreground_fraction)
    return Facts(
        configuration=configuration,
        case_count=len(fingerprint.cases),
        channel_count=len(fingerprint.channel_names),
        class_count=len(fingerprint.labels.values),
        median_crop_fraction=float(np.median(crop_fractions)),
        median_spacing_ratio=float(spacing.max() / spacing.min()),
        smallest_class=smallest.name,
        smallest_class_foreground_fraction=smallest.foreground_fraction,
        device="cpu" if machine.gpu_name is None else "gpu",
        gpu_memory_gb=machine.gpu_memory_gb,
        cores=machine.cores,
        memory_gb=machine.memory_gb,
        bf16=machine.bf16,
    )


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
