"""The training loop, to be read in one go."""

import itertools
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import get_args

import torch
from torch import nn

from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import Batch, RawSample
from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.dataset.dataset import LabelScheme
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.planning.plan import Configuration, Form
from autoseg.preprocessing.store import StoredCase
from autoseg.tasks.losses import deep_supervision_loss
from autoseg.training import workers
from autoseg.training.distributed import ALONE, Team
from autoseg.training.execution import (
    Trial,
    fastest_form,
    image_in_form,
    in_form,
    seconds_if_it_runs,
)
from autoseg.training.initialization import initialize_from
from autoseg.training.learner import Learner
from autoseg.training.metrics_log import (
    EpochSummary,
    Scores,
    TrainingListener,
    append_summary,
    drop_summaries_after,
)
from autoseg.training.sampling import PatchSampler, Purpose, prefetch
from autoseg.training.schedule import Budget, learning_rate
from autoseg.training.state import Position, SavedState, StateFile
from autoseg.training.validation import PatchScores, score_patches

CHECKPOINT_INTERVAL_S = 300.0
BATCHES_AHEAD = 4
BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train on, how long, where to write, on which device, and together with whom.

    `card` describes the model; `initial_model` is one to start from.
    """

    card: ModelCard
    train_cases: dict[str, StoredCase]
    validation_cases: dict[str, StoredCase]
    budget: Budget
    folder: Path
    device: Device
    threads: int
    seed: int
    initial_model: Path | None = None
    team: Team = ALONE

    @property
    def configuration(self) -> Configuration:
        return self.card.configuration

    @property
    def labels(self) -> LabelScheme:
        return self.card.labels

    def card_at(self, position: Position, **changes: bool) -> ModelCard:
        """The card of a model that has been trained so far."""
        trained = {
            "trained_iterations": position.iteration,
            "trained_seconds": position.elapsed_s,
        }
        return self.card.model_copy(update=trained | changes)

    def saved_state(self, position: Position, form: Form) -> SavedState:
        """What to keep in order to go on from a position."""
        return SavedState(
            position=position,
            configuration=self.configuration,
            budget_iterations=self.budget.iterations,
            budget_seconds=self.budget.seconds,
            seed=self.seed,
            form=form,
        )


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """One iteration's loss and gradient norm, still on the training device."""

    iteration: int
    fraction: float
    loss: torch.Tensor
    gradient_norm: torch.Tensor
    case_ids: tuple[str, ...]


def train_model(
    job: TrainingJob, listener: TrainingListener, stop: Event, resume: bool
) -> tuple[nn.Module, Position]:
    """Train a network until its budget is used, or until `stop` is set between two iterations.

    The state is kept in `resume/` at least every five minutes and at the end. Raises AutosegError
    naming the cases of the batch when the loss is no longer finite, and saying what to change when
    memory does not suffice.
    """
    plan, team = job.configuration.training, job.team
    learner = Learner(_new_network(job, listener, resume), job.configuration, job.device)
    state_file = StateFile.of(job.folder)
    metrics = job.folder / "metrics.jsonl"
    position = Position(iteration=0, elapsed_s=0.0)
    if resume:
        state = state_file.load(learner, job.configuration)
        position = state.position
        form = _usable_form(job, learner.network, state.form)
    else:  # so that seed and length are known, however soon this training is killed
        form = _choose_form(job, learner.network)
        if team.leads:
            state_file.save(learner, job.saved_state(position, form))
    scores = Scores()
    if team.leads:
        drop_summaries_after(metrics, position.iteration)
        scores = Scores.read(metrics)
    network = team.parallel(in_form(learner.network, form))

    iteration, elapsed_s = position.iteration, position.elapsed_s
    ended_early = position.stopped_early
    started = time.monotonic() - elapsed_s
    saved_at = time.monotonic()
    sampler = make_sampler(job, "training")
    share = team.share(sampler.batch_size)
    first = iteration * plan.accumulated_batches
    batches = _make_batches(sampler, share, first, job.threads)
    losses: list[torch.Tensor] = []
    last: StepOutcome | None = None
    while True:
        fraction, ends = team.agree(
            job.budget.fraction(iteration, elapsed_s), float(stop.is_set() or ended_early)
        )
        if fraction >= 1 or ends:
            break
        parts: list[torch.Tensor] = []
        case_ids: list[str] = []
        for _ in range(plan.accumulated_batches):
            batch = _augment(job, next(batches))
            logits = _forward(job, network, image_in_form(batch.image, form))
            loss = deep_supervision_loss(logits, batch.label, job.configuration.loss, team.sum_up)
            learner.add_gradient(loss)
            parts.append(loss.detach())
            case_ids += batch.case_ids
        rate = learning_rate(plan, fraction)
        norm = learner.step(rate, iteration)
        losses.append(torch.stack(parts).mean())
        iteration += 1
        elapsed_s = time.monotonic() - started
        fraction = job.budget.fraction(iteration, elapsed_s)
        if last is not None:  # one step late, so that a GPU has work while it is waited for
            _report(listener, last)
        last = StepOutcome(iteration, fraction, losses[-1], norm, tuple(case_ids))

        ends_epoch = iteration % plan.iterations_per_epoch == 0 or fraction >= 1
        if ends_epoch and team.leads:
            _report(listener, last)
            found = _validate_patches(job, learner.model)
            summary = EpochSummary(
                epoch=(iteration - 1) // plan.iterations_per_epoch,
                iteration=iteration,
                elapsed_s=elapsed_s,
                learning_rate=rate,
                train_loss=float(torch.stack(losses).mean()),
                validation_loss=None if found is None else found.loss,
                patch_dice={} if found is None else found.dice,
            )
            append_summary(metrics, summary)
            listener.on_epoch(summary, () if found is None else found.examples)
            if scores.add(summary) and plan.keep_best:
                card = job.card_at(_position(iteration, elapsed_s), chosen_on_validation=True)
                save_model(job.folder / BEST, learner.model, card)
            ended_early = scores.has_stalled(plan.early_stop_epochs)
            last = None
            elapsed_s = time.monotonic() - started
        if ends_epoch:
            losses = []
        if team.leads and time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S:
            _check_finite(last)
            state_file.save(learner, job.saved_state(_position(iteration, elapsed_s), form))
            saved_at = time.monotonic()
    batches.close()
    _check_finite(last)
    position = _position(iteration, elapsed_s, ended_early)
    if team.leads:
        state_file.save(learner, job.saved_state(position, form))
    return learner.model, position


def make_sampler(job: TrainingJob, purpose: Purpose) -> PatchSampler:
    """The sampler of augmented training patches, or of plain patches of the held-out cases."""
    training = purpose == "training"
    configuration = job.configuration
    return PatchSampler(
        cases=job.train_cases if training else job.validation_cases,
        patch_size_vox=configuration.patch_box_vox,
        batch_size=configuration.batch_size,
        training=configuration.training,
        augmentation=configuration.augmentation if training else None,
        seed=job.seed,
        purpose=purpose,
    )


def _make_batches(
    sampler: PatchSampler, share: range, first_step: int, threads: int
) -> Generator[list[RawSample], None, None]:
    """The samples of each step in order, read ahead by threads, or augmented by processes."""
    steps = itertools.count(first_step)
    if sampler.training.augment_on == "workers":
        return workers.make_batches(sampler, share, steps, threads)
    ahead = max(BATCHES_AHEAD, threads)
    return prefetch(lambda step: sampler.draw(step, share), steps, threads, ahead)


def _new_network(job: TrainingJob, listener: TrainingListener, resume: bool) -> nn.Module:
    """The network with initial weights that depend on the seed, or on a model to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = build_network(job.configuration, job.labels)
    if job.initial_model is not None and not resume:
        listener.on_message(initialize_from(network, job.card, job.initial_model).text())
    return network.to(job.device.torch_device)


def _choose_form(job: TrainingJob, network: nn.Module) -> Form:
    """The plan's form, or the fastest one here for a whole batch."""
    planned = job.configuration.training.form
    if planned != "fastest":
        return _usable_form(job, network, planned)
    return _agreed(job, fastest_form(_trial(job, network)))


def _usable_form(job: TrainingJob, network: nn.Module, form: Form) -> Form:
    """A form that was chosen before, unless it does not run here: then eager."""
    if form != "compiled":
        return form
    usable = seconds_if_it_runs(_trial(job, network), form) is not None
    return _agreed(job, form if usable else "eager")


def _trial(job: TrainingJob, network: nn.Module) -> Trial:
    """The network with its first batch of images."""
    share = job.team.share(job.configuration.batch_size)
    batch = _augment(job, make_sampler(job, "training").draw(0, share))
    return Trial(network, batch.image, _arguments(job), job.device)


def _agreed(job: TrainingJob, form: Form) -> Form:
    forms: tuple[Form, ...] = get_args(Form)
    (said,) = job.team.agree(forms.index(form))
    return forms[int(said)]


def _augment(job: TrainingJob, samples: Sequence[RawSample]) -> Batch:
    configuration = job.configuration
    cascaded = configuration.previous_stage is not None
    shape = BatchShape(
        patch_size_vox=configuration.patch_box_vox,
        masked_channels=tuple(i for i, c in enumerate(configuration.normalization) if c.masked),
        planar=configuration.augmentation.planar,
        previous_classes=len(job.labels.values) - 1 if cascaded else 0,
    )
    batch = augment_batch(samples, shape, job.device.torch_device)
    if configuration.spatial_dims == 3:
        return batch
    return Batch(batch.image.squeeze(2), batch.label.squeeze(1), batch.case_ids)


def _arguments(job: TrainingJob) -> dict[str, bool]:
    """Networks of other packages need not know of deep supervision."""
    return {"all_resolutions": True} if job.configuration.network.deep_supervision else {}


def _forward(job: TrainingJob, network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Logits, highest resolution first; only that one without deep supervision."""
    with job.device.autocast():
        logits = network(image, **_arguments(job))
    return logits if isinstance(logits, list) else [logits]


def _position(iteration: int, elapsed_s: float, stopped_early: bool = False) -> Position:
    return Position(iteration=iteration, elapsed_s=elapsed_s, stopped_early=stopped_early)


def _report(listener: TrainingListener, outcome: StepOutcome) -> None:
    _check_finite(outcome)
    listener.on_step(outcome.iteration, outcome.fraction, float(outcome.loss))


def _check_finite(outcome: StepOutcome | None) -> None:
    """Stop before anything is saved once a step's loss or gradient is no longer finite."""
    if outcome is None or torch.isfinite(outcome.loss + outcome.gradient_norm):
        return
    raise AutosegError(
        f"The loss became {float(outcome.loss)}, its gradient {float(outcome.gradient_norm)}, at "
        f"iteration {outcome.iteration}, in a batch of {', '.join(outcome.case_ids)}. Look at "
        "these scans for extreme intensities. What resume/ holds, if anything, is from before."
    )


def _validate_patches(job: TrainingJob, network: nn.Module) -> PatchScores | None:
    if not job.validation_cases:
        return None
    network.eval()
    sampler = make_sampler(job, "validation")
    steps = range(job.configuration.training.validation_iterations)
    found = score_patches(
        (_augment(job, sampler.draw(step)) for step in steps),
        partial(_forward, job, network),
        job.configuration.loss,
        job.labels,
    )
    network.train()
    return found
