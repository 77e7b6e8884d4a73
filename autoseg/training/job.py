"""Everything that a training needs, found out before it begins."""

from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.checkpoint import ModelCard
from autoseg.device import Device, Precision
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import RunPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.distributed import SINGLE, ProcessGroup
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder


@dataclass(frozen=True, slots=True)
class Training:
    """What to train on, how long, where to write, on which device, and together with whom.

    `card` describes the model, its configuration as this training runs it; `planned` is that of the
    plan. `initial_model` is one to start from. What is measured of this machine is kept in the
    folder `cache`; None: nowhere, and the device's precision is taken as it is.
    """

    card: ModelCard
    planned: Configuration
    train_cases: dict[str, StoredCase]
    validation_cases: dict[str, StoredCase]
    budget: Budget
    folder: FoldFolder
    device: Device
    threads: int
    seed: int
    initial_model: Path | None = None
    group: ProcessGroup = SINGLE
    cache: Path | None = None
    expected_epoch_s: float | None = None  # by the plan

    @property
    def configuration(self) -> Configuration:
        return self.card.configuration

    def computing_in(self, precision: Precision) -> "Training":
        """The same in another precision."""
        return replace(self, device=replace(self.device, precision=precision))

    @property
    def run(self) -> RunPlan:
        return self.card.configuration.run
