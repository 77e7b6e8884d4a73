"""How a stage that takes long is followed: bars, and a training as lines."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoseg.training.pace import Pace

if TYPE_CHECKING:
    from autoseg.training.metrics_log import EpochSummary
    from autoseg.training.validation import Example

SECONDS_OF_SILENCE = 30
REWRITE_LINE = "\r\x1b[K"


class ProgressBars:
    """A bar on stderr for each thing that is counted; a listener for pipeline stages.

    In a file or pipe it is a line now and then.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.told = time.monotonic()

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        if what not in self.tasks:
            self.bars.start()
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)
        if self.bars.disable and time.monotonic() - self.told > SECONDS_OF_SILENCE:
            self.bars.console.print(f"{what}: {done} of {total}")
            self.told = time.monotonic()
        if done == total:
            self.bars.remove_task(self.tasks.pop(what))
            if not self.tasks:
                self.bars.stop()


class TrainingView:
    """A training as text: a line that stays for each epoch, and a `live` one that is rewritten; in
    a file or pipe, where the first epoch takes long, lines now and then until it ends."""

    def __init__(self, fold: str, write: Callable[[str], None], live: bool) -> None:
        self.fold = fold
        self.write = write
        self.pace = Pace()
        self.live = live
        self.told_s: float | None = time.monotonic()  # None once an epoch has ended

    def __enter__(self) -> "TrainingView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        now_s = time.monotonic()
        self.pace.see(now_s, fraction)
        long_silent = self.told_s is not None and now_s - self.told_s > SECONDS_OF_SILENCE
        if not self.live and not long_silent:
            return
        left = self.pace.seconds_left(now_s, fraction) or 0.0
        text = f"fold {self.fold}  iteration {iteration}  {fraction:4.0%}  loss {loss:.3f}"
        text = f"{text}  {clock(left)} left"
        self.write(f"{REWRITE_LINE}{text}" if self.live else f"{text}\n")
        if long_silent:
            self.told_s = now_s

    def on_message(self, text: str) -> None:
        self._clear()
        self.write(f"{text}\n")

    def on_epoch(self, summary: "EpochSummary", examples: "Sequence[Example]") -> None:
        self._clear()
        self.told_s = None
        dice = "  ".join(
            f"{name} {'-' if value is None else f'{value:.3f}'}"
            for name, value in summary.patch_dice.items()
        )
        self.write(
            f"fold {self.fold}  epoch {summary.epoch:4d}  iteration {summary.iteration:6d}  "
            f"{clock(summary.elapsed_s)}  loss {summary.train_loss:.3f}  patch Dice  {dice}\n"
        )

    def _clear(self) -> None:
        if self.live:
            self.write(REWRITE_LINE)


def training_view(fold: int | None, rank: int = 0) -> TrainingView:
    """What shows a training on stderr; only the first process of several shows anything."""

    def write(text: str) -> None:
        if rank == 0:
            print(text, end="", file=sys.stderr, flush=True)

    name = "all" if fold is None else str(fold)
    return TrainingView(name, write, live=sys.stderr.isatty() and rank == 0)


def clock(seconds: float) -> str:
    """A duration as 1:02:03, or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
