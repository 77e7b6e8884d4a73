"""What a training says of itself: one JSON line per epoch, and events for whoever shows them."""

import json
from pathlib import Path
from typing import Protocol

from autoseg.records import Record


class EpochSummary(Record):
    """One epoch. Dice values are those of random patches of the held-out cases, per class name."""

    epoch: int
    iteration: int
    elapsed_s: float
    learning_rate: float
    train_loss: float
    validation_loss: float | None
    patch_dice: dict[str, float | None]


class TrainingListener(Protocol):
    """Told how a training goes; the command line shows it."""

    def on_step(self, iteration: int, fraction: float, loss: float) -> None: ...

    def on_epoch(self, summary: EpochSummary) -> None: ...


class SilentListener:
    """A listener that says nothing."""

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        """Nothing to show."""

    def on_epoch(self, summary: EpochSummary) -> None:
        """Nothing to show."""


def append_summary(path: Path, summary: EpochSummary) -> None:
    """Append one line to `metrics.jsonl`."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(summary.model_dump(mode="json")) + "\n")


def drop_summaries_after(path: Path, iteration: int) -> None:
    """Forget the lines of epochs that a resumed training will run again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["iteration"] <= iteration]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
