"""Trainings of the benchmark, and what is noted while they run."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from autoseg.checkpoint import read_tensors
from autoseg.device import Device
from autoseg.machine import available_cores
from autoseg.pipeline.jobs import TrainJob
from autoseg.pipeline.train import FoldResult, train_fold
from autoseg.planning.plan import Configuration
from autoseg.preprocessing.store import open_case
from autoseg.training.job import Training
from autoseg.training.metrics_log import EpochSummary, SilentListener
from autoseg.training.schedule import Budget
from autoseg.training.validation import Example
from autoseg.work_folder import FoldFolder, WorkFolder
from benchmarks.gpu.plans import card_of


class Watch(SilentListener):
    """Notes when steps end, losses and epochs; `at` says what to do at which iteration."""

    def __init__(self, at: dict[int, Callable[[], object]] | None = None) -> None:
        self.at = at or {}
        self.ends: list[float] = []
        self.losses: list[float] = []
        self.epochs: list[EpochSummary] = []

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.ends.append(time.perf_counter())
        self.losses.append(loss)
        if iteration in self.at:
            self.at[iteration]()

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        self.epochs.append(summary)


def train(
    work: WorkFolder, device: Device, budget: Budget, watch: Watch, stop: Event, **job: object
) -> FoldResult:
    """Train fold 0 of the pack's data."""
    asked = TrainJob(fold=0, work=work.root, budget=budget, seed=0, device=device.name)
    return train_fold(asked.model_copy(update=job), watch, stop)


def largest_difference(a: Path, b: Path) -> float:
    """Of the weights of two models."""
    one, other = read_tensors(a)[0], read_tensors(b)[0]
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def on_cases(
    configuration: Configuration, cases: Path, folder: Path, device: Device, iterations: int
) -> Training:
    """A training on prepared cases that belong to no work folder; the last one is held out."""
    folder.mkdir(parents=True)
    opened = {path.stem: open_case(path) for path in sorted(cases.glob("*.prepared"))}
    *train_ids, held_out = opened
    return Training(
        card=card_of(configuration),
        planned=configuration,
        train_cases={case_id: opened[case_id] for case_id in train_ids},
        validation_cases={held_out: opened[held_out]},
        budget=Budget(iterations=iterations),
        folder=FoldFolder(folder),
        device=device,
        threads=max(1, available_cores() - 1),  # as autoseg does
        seed=0,
        cache=folder / "cache",
    )


def chosen_runs(cache: Path | None) -> list[dict[str, Any]]:
    """Which ways to run were found to be the fastest, and seconds of all that were tried."""
    kept = [] if cache is None else sorted(cache.glob("*.run"))
    return [json.loads(path.read_text()) for path in kept]
