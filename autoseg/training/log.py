"""What a training says of itself: one JSON line per epoch, and events for whoever shows them."""

import json
from pathlib import Path
from typing import Protocol

from autoseg.records import Record, replacing


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
    """Forget the lines of epochs that a resumed training will run again, and half-written ones."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
