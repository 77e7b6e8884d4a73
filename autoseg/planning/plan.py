"""Plans: everything that preparing, training and predicting will do, and why.

Sizes and spacings follow the plan's axis order: reoriented, then permuted by `axis_order`.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.machine import Machine
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.model_plan import ConfigurationName, ModelPlan
from autoseg.planning.run_plan import RunPlan
from autoseg.records import Record, parse_record, read_json

FORMAT_VERSION = 2


class InferencePlan(Record):
    """Sliding window: steps and Gaussian width as fractions of the patch.

    Mirror axes are axes of prepared scans, 0 to 2, in two dimensions too. `median_shape_vox` is
    the median scan of the training set on the plan's grid; others are warned of. Things that are
    smaller than a ball of `smallest_object_mm` across, in a single slice a disc, are noise.
    """

    step_fraction: float = Field(gt=0, le=1)
    gaussian_sigma_fraction: float = Field(gt=0)
    mirror_axes: tuple[int, ...]
    median_shape_vox: tuple[float, ...]
    smallest_object_mm: float = Field(default=0.0, ge=0)


class Configuration(Record):
    """All that is needed to prepare, train and predict at one resolution, in four parts.

    Prepared files depend on the grid, weights on grid and model; a training on all but the last.
    """

    name: ConfigurationName
    grid: GridPlan
    model: ModelPlan
    run: RunPlan
    inference: InferencePlan

    @property
    def previous_stage(self) -> ConfigurationName | None:
        """The configuration whose masks this one sees, in a cascade."""
        mask = self.model.stage_mask
        return None if mask is None else mask.stage

    def is_same_model(self, other: "Configuration") -> bool:
        """Whether weights of the one may be averaged with those of the other."""
        return (self.grid, self.model) == (other.grid, other.model)


class Decision(Record):
    """Why a value is what it is: the rule that gave it, its reason, and the facts it looked at.

    It explains, and no program reads it.
    """

    name: str
    configuration: ConfigurationName | None
    value: Any
    rule_id: str
    because: str
    facts: dict[str, Any]
    source: str


class Expectation(Record):
    """What a configuration takes: memory of training, time, and disk for prepared scans.

    `planned_gib` is the memory that the patch was searched for, as far as a search was made.
    `smaller` says in words what the next smaller plan would take.
    """

    memory_gib: float
    step_seconds: float
    epoch_minutes: float
    fold_hours: float
    disk_gib: float
    planned_gib: float | None
    basis: Literal["estimated", "measured"]
    smaller: str | None = None


class Plan(Record):
    """What will be done with a dataset."""

    format_version: int = FORMAT_VERSION
    name: str
    rule_set: str
    machine: Machine
    labels: LabelScheme
    channel_names: tuple[str, ...]
    configurations: dict[ConfigurationName, Configuration]
    recommended: ConfigurationName
    expected: dict[ConfigurationName, Expectation]
    decisions: tuple[Decision, ...]

    def configuration(self, name: str | None) -> Configuration:
        """The configuration of a name, or the recommended one. Raises AutosegError if none is."""
        known = dict[str, Configuration](self.configurations.items())
        chosen = name or self.recommended
        if chosen not in known:
            raise AutosegError(
                f"Plan {self.name!r} has no configuration {name!r}, only {', '.join(known)}."
            )
        return known[chosen]


def read_plan(path: Path) -> Plan:
    """A saved plan. Raises AutosegError when it is absent, damaged, or of another format."""
    content = read_json(path)
    version = content.get("format_version", 1) if isinstance(content, dict) else FORMAT_VERSION
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise AutosegError(f"{path}: of a newer version of autoseg (format {version}). Upgrade it.")
    if version != FORMAT_VERSION:
        raise AutosegError(
            f"{path}: a plan of format {version}, where this version of autoseg knows "
            f"{FORMAT_VERSION}. Make it anew with `autoseg plan DATASET --overwrite`, which "
            "deletes what was trained with it, or leave it and give the new plan a --name."
        )
    return parse_record(Plan, content, str(path))
