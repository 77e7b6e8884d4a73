"""What a training says of itself: one JSON line per epoch, and events for whoever shows them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autoseg.records import Record, replacing
from autoseg.training.validation import Example

MOVING = 0.9  # what the moving mean keeps of itself each epoch


class EpochSummary(Record):
    """One epoch. Dice values are those of random patches of the held-out cases, per class name.

    `skipped_steps` had no finite gradient; the training loss is the mean of the others. What is
    left of the training, `remaining_s`, is by the rate of the last minutes.
    """

    epoch: int
    iteration: int
    elapsed_s: float
    learning_rate: float
    train_loss: float | None
    validation_loss: float | None
    patch_dice: dict[str, float | None]
    skipped_steps: int = 0
    remaining_s: float | None = None


class TrainingListener(Protocol):
    """Told how a training goes; the command line shows it."""

    def on_message(self, text: str) -> None: ...

    def on_step(self, iteration: int, fraction: float, loss: float) -> None: ...

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None: ...


class SilentListener:
    """A listener that says nothing."""

    def on_message(self, text: str) -> None:
        """Nothing to show."""

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        """Nothing to show."""

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        """Nothing to show."""


@dataclass(slots=True)
class Scores:
    """The moving mean of the held-out patches' Dice, and when it was at its best.

    As nnU-Net v2's online figure: a tenth of each epoch's mean over classes.
    """

    mean: float | None = None
    best: float | None = None
    epochs_since_best: int = 0

    @classmethod
    def read(cls, metrics: Path) -> "Scores":
        """Those of the epochs in `metrics.jsonl`."""
        scores = cls()
        if metrics.exists():
            for line in metrics.read_text(encoding="utf-8").splitlines():
                scores.add(EpochSummary.model_validate_json(line))
        return scores

    def add(self, summary: EpochSummary) -> bool:
        """Take in an epoch; whether it is the best so far."""
        dice = [value for value in summary.patch_dice.values() if value is not None]
        if not dice:
            return False
        now = sum(dice) / len(dice)
        self.mean = now if self.mean is None else MOVING * self.mean + (1 - MOVING) * now
        if self.best is None or self.mean > self.best:
            self.best, self.epochs_since_best = self.mean, 0
            return True
        self.epochs_since_best += 1
        return False

    def has_stalled(self, epochs: int | None) -> bool:
        """Whether so many epochs have passed without a better one; never for None."""
        return epochs is not None and self.epochs_since_best >= epochs


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
