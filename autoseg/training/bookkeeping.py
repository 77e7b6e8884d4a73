"""What a training keeps account of beside its loop: position, epochs, messages, saved states."""

import time
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean

import torch

from autoseg.checkpoint import ModelCard, save_model
from autoseg.errors import AutosegError
from autoseg.planning.run_plan import Execution
from autoseg.training.job import Training
from autoseg.training.learner import Learner
from autoseg.training.metrics_log import (
    EpochSummary,
    Scores,
    TrainingListener,
    append_summary,
    drop_summaries_after,
)
from autoseg.training.pace import Pace, surprise
from autoseg.training.state import Position, SavedState, StateFiles
from autoseg.training.validation import PatchScores

CHECKPOINT_INTERVAL_S = 300.0
SKIPPED_IN_A_ROW = 10  # steps whose gradient is not finite, after which a training gives up


class StepOutcome:
    """One step's loss and gradient norm, on their way from the training device."""

    def __init__(
        self, loss: torch.Tensor, gradient_norm: torch.Tensor, case_ids: tuple[str, ...]
    ) -> None:
        self.case_ids = case_ids
        self._numbers = torch.stack((loss.float(), gradient_norm.float()))
        self._arrival: torch.cuda.Event | None = None
        if self._numbers.is_cuda:
            self._numbers = self._numbers.to("cpu", non_blocking=True)  # into pinned memory
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record()

    def numbers(self) -> tuple[float, float]:
        """Both, once they are here; of what was asked of the device later nothing is waited for."""
        if self._arrival is not None:
            self._arrival.synchronize()
        loss, gradient_norm = self._numbers.tolist()
        return loss, gradient_norm


@dataclass(slots=True)
class Bookkeeping:
    """Counts steps and time, tells the listener, writes epochs and states.

    Outcomes are looked at one step late, so that a GPU has work while it is waited for. A step that
    is not finite has changed no weight; it is counted and told, and ten in a row end the training.
    """

    training: Training
    listener: TrainingListener
    learner: Learner
    execution: Execution
    position: Position
    scores: Scores = field(default_factory=Scores)
    saved_at: float = field(default_factory=time.monotonic)
    last: StepOutcome | None = None
    losses: list[float] = field(default_factory=list)
    in_a_row: int = 0
    pace: Pace = field(default_factory=Pace)
    started: float = field(init=False)
    began: Position = field(init=False)  # where this process did

    def __post_init__(self) -> None:
        self.began = self.position
        self.losses = list(self.position.epoch_losses)
        self.started = time.monotonic() - self.position.elapsed_s
        if self.training.group.is_main:
            drop_summaries_after(self.training.folder.metrics, self.position.iteration)
            self.scores = Scores.read(self.training.folder.metrics)

    @property
    def iteration(self) -> int:
        return self.position.iteration

    @property
    def fraction(self) -> float:
        """How much of the budget is used."""
        return self.training.budget.fraction(self.iteration, self.position.elapsed_s)

    @property
    def stalled(self) -> bool:
        return self.position.stopped_early

    @property
    def epoch_ends(self) -> bool:
        per_epoch = self.training.run.training.iterations_per_epoch
        return self.iteration % per_epoch == 0 or self.fraction >= 1

    def end_step(self, outcome: StepOutcome) -> None:
        """Take in a step, and look at the one before it."""
        self.look_at_last()
        self.last = outcome
        self.pace.see(self.position.elapsed_s, self.fraction)
        self._move(iteration=self.iteration + 1)

    def end_epoch(self, found: PatchScores, rate: float) -> None:
        """Write what an epoch came to, keep the best model, and see whether it is time to stop."""
        self.look_at_last()
        plan = self.training.run.training
        summary = EpochSummary(
            epoch=(self.iteration - 1) // plan.iterations_per_epoch,
            iteration=self.iteration,
            elapsed_s=self.position.elapsed_s,
            learning_rate=rate,
            train_loss=_mean_of_finite(self.losses),
            validation_loss=found.loss,
            patch_dice=found.dice or {},
            skipped_steps=self.position.skipped,
            remaining_s=self.pace.seconds_left(self.position.elapsed_s, self.fraction),
        )
        append_summary(self.training.folder.metrics, summary)
        self.listener.on_epoch(summary, found.examples)
        self._compare_with_plan(summary)
        if self.scores.add(summary) and plan.keep_best:
            save_model(self.training.folder.best, self.learner.model, self._card_of_best())
        self._move(stopped_early=self.scores.has_stalled(plan.early_stop_epochs))

    def _compare_with_plan(self, summary: EpochSummary) -> None:
        """After the first epoch that this process has run in full."""
        if self.iteration - self.began.iteration != self.training.run.training.iterations_per_epoch:
            return
        epoch_s = self.position.elapsed_s - self.began.elapsed_s
        said = surprise(epoch_s, self.training.expected_epoch_s, summary.remaining_s)
        if said is not None:
            self.listener.on_message(said)

    def forget_epoch(self) -> None:
        """Begin the next epoch's account."""
        self.losses = []
        self._move(skipped=0)

    def save_if_due(self) -> None:
        if self.training.group.is_main and time.monotonic() - self.saved_at > CHECKPOINT_INTERVAL_S:
            self.save()
            self.saved_at = time.monotonic()

    def save(self) -> None:
        """Keep the state in order to go on from here."""
        self.look_at_last()
        losses = tuple(loss for loss in self.losses if isfinite(loss))  # as JSON has it
        position = self.position.model_copy(update={"epoch_losses": losses})
        training = self.training
        state = SavedState(
            position=position,
            planned=training.planned,
            configuration=training.card.configuration,
            budget=training.budget,
            seed=training.seed,
            execution=self.execution,
            precision=training.device.precision,
        )
        if training.group.is_main:
            state_files(training).save(self.learner, state)

    def _move(self, **changes: int | bool) -> None:
        elapsed = {"elapsed_s": time.monotonic() - self.started}
        self.position = self.position.model_copy(update=elapsed | changes)

    def _card_of_best(self) -> ModelCard:
        return card_at(self.training, self.position, chosen_on_validation=True)

    def look_at_last(self) -> None:
        """Tell of the last step. Raises AutosegError after too many that were not finite."""
        outcome, self.last = self.last, None
        if outcome is None:
            return
        loss, gradient_norm = outcome.numbers()
        if isfinite(gradient_norm):
            self.in_a_row = 0
            self.losses.append(loss)
            self.listener.on_step(self.iteration, self.fraction, loss)
            return
        self.in_a_row += 1
        self._move(skipped=self.position.skipped + 1)
        what = (
            f"The loss became {loss}, its gradient {gradient_norm}, "
            f"at iteration {self.iteration}, in a batch of {', '.join(outcome.case_ids)}."
        )
        if self.in_a_row >= SKIPPED_IN_A_ROW:
            raise AutosegError(
                f"{what} So did the {SKIPPED_IN_A_ROW - 1} steps before it. Look at these scans "
                "for extreme intensities. What is saved, if anything, is from before."
            )
        self.listener.on_message(f"{what} The step is skipped.")


def card_at(training: Training, position: Position, **changes: bool) -> ModelCard:
    """The card of a model that has been trained so far, as the training computes."""
    trained = {
        "trained_precision": training.device.precision,
        "trained_iterations": position.iteration,
        "trained_seconds": position.elapsed_s,
    }
    return training.card.model_copy(update=trained | changes)


def state_files(training: Training) -> StateFiles:
    return StateFiles(training.folder.state, training.folder.previous_state)


def _mean_of_finite(losses: list[float]) -> float | None:
    finite = [loss for loss in losses if isfinite(loss)]
    return fmean(finite) if finite else None
