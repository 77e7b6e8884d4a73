"""Small trainings on bright blobs, and a listener that remembers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from autoseg.checkpoint import ModelCard
from autoseg.dataset.labels import LabelScheme
from autoseg.device import Device
from autoseg.planning.model_plan import ScanInput
from autoseg.planning.plan import Configuration
from autoseg.preprocessing.store import StoredCase
from autoseg.training.job import Training
from autoseg.training.metrics_log import EpochSummary
from autoseg.training.schedule import Budget
from autoseg.training.validation import Example
from autoseg.work_folder import FoldFolder
from tests.planning.specified import CPU as CPU_MACHINE
from tests.planning.specified import Scans, made_up_fingerprint, plan_of

CPU = Device(torch.device("cpu"), "fp32")
BLOB = LabelScheme(values=(0, 1), names=("background", "blob"))
PART_OF = {
    "network": "model", "task": "model", "loss": "run", "augmentation": "run", "training": "run",
}  # fmt: skip


class Recorder:
    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.epochs: list[EpochSummary] = []
        self.messages: list[str] = []
        self.examples: list[Example] = []
        self.stop_at = stop_at
        self.stop = Event()

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.losses.append(loss)
        if iteration == self.stop_at:
            self.stop.set()

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        self.epochs.append(summary)
        self.examples += examples


def make_case(seed: int) -> StoredCase:
    """A bright blob on noise."""
    rng = np.random.default_rng(seed)
    shape = (16, 18, 20)
    label = np.zeros(shape, np.uint8)
    label[5:11, 6:12, 7:13] = 1
    image = rng.normal(size=shape) + 3 * ndimage.gaussian_filter(label.astype(float), 1)
    voxels = np.argwhere(label).astype(np.uint16)
    return StoredCase(shape, image[None].astype(np.float32), label, None, {1: voxels})


SGD = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.99}  # so few features need it


def small_configuration(dims: int = 3) -> Configuration:
    """A plan's for cases of this size, with few features and short epochs."""
    plan = plan_of(
        made_up_fingerprint(Scans((16, 18, 20), (1, 1, 1), count=50)), "cpu", CPU_MACHINE
    )
    configuration = plan.configurations["2d" if dims == 2 else "3d_fullres"]
    stages = tuple(
        stage.model_copy(update={"features": 4 * 2**level})
        for level, stage in enumerate(configuration.model.network.stages)
    )
    return changed_configuration(
        configuration,
        model={"inputs": (ScanInput(channels=("image",)),)},
        network={"stages": stages},
        training={"iterations_per_epoch": 10, "validation_iterations": 2} | SGD,
    )


def changed_configuration(
    configuration: Configuration, /, **parts: dict[str, Any]
) -> Configuration:
    """The configuration with changes to parts, or to parts of its parts."""
    for name, changes in parts.items():
        outer_name = PART_OF.get(name)
        if outer_name is None:
            outer_name, changed = name, getattr(configuration, name).model_copy(update=changes)
        else:
            outer = getattr(configuration, outer_name)
            inner = getattr(outer, name).model_copy(update=changes)
            changed = outer.model_copy(update={name: inner})
        configuration = configuration.model_copy(update={outer_name: changed})
    return configuration


def card_of(configuration: Configuration, labels: LabelScheme = BLOB) -> ModelCard:
    return ModelCard(
        plan_name="cpu",
        configuration=configuration,
        labels=labels,
        channel_names=("image",),
        fold=0,
        trained_cases=3,
        trained_iterations=0,
        trained_seconds=0,
    )


def training_in(
    folder: Path, iterations: int, broken: Sequence[int] = (), dims: int = 3
) -> Training:
    """On three cases, with a fourth held out; the intensities of those that are broken are not
    finite."""
    configuration = small_configuration(dims)
    cases = {f"case_{i}": make_case(i) for i in range(4)}
    for index in broken:
        cases[f"case_{index}"].image[:] = np.inf
    folder.mkdir(exist_ok=True)
    return Training(
        card=card_of(configuration),
        planned=configuration,
        train_cases={c: cases[c] for c in list(cases)[:3]},
        validation_cases={"case_3": cases["case_3"]},
        budget=Budget(iterations=iterations),
        folder=FoldFolder(folder),
        device=CPU,
        threads=2,
        seed=1,
    )


def training_with(folder: Path, iterations: int, **training: Any) -> Training:
    return changed_training(training_in(folder, iterations), training=training)


def changed_training(begun: Training, /, **parts: dict[str, Any]) -> Training:
    """The training of a plan with other parts, as `changed_configuration` takes them."""
    configuration = changed_configuration(begun.configuration, **parts)
    card = begun.card.model_copy(update={"configuration": configuration})
    return replace(begun, card=card, planned=configuration)
