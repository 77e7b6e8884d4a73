"""The training loop, to be read in one go."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch
from torch import nn

from autoseg.augmentation.policy import augment_batch
from autoseg.augmentation.sample import Batch, RawSample
from autoseg.checkpoint import build_network
from autoseg.dataset import LabelScheme
from autoseg.errors import AutosegError
from autoseg.losses import deep_supervision_loss
from autoseg.planning.plan import Configuration
from autoseg.preprocessing.store import StoredCase
from autoseg.training.log import (
    EpochSummary,
    TrainingListener,
    append_summary,
    drop_summaries_after,
)
from autoseg.training.sampling import PatchSampler, prefetch
from autoseg.training.schedule import Budget, learning_rate
from autoseg.training.state import Position, SavedState, StateFile

CHECKPOINT_INTERVAL_S = 300.0
BATCHES_AHEAD = 4


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train on, how long, where to write, and on which device."""

    configuration: Configuration
    labels: LabelScheme
    train_cases: dict[str, StoredCase]
    validation_cases: dict[str, StoredCase]
    budget: Budget
    folder: Path
    device: torch.device
    bf16: bool
    threads: int
    seed: int

    def saved_state(self, iteration: int, elapsed_s: float) -> SavedState:
        """What to keep in order to go on from an iteration."""
        return SavedState(
            position=Position(iteration=iteration, elapsed_s=elapsed_s),
            configuration=self.configuration,
            budget_iterations=self.budget.iterations,
            budget_seconds=self.budget.seconds,
            seed=self.seed,
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
    naming the cases of the batch when the loss is no longer finite.
    """
    plan = job.configuration.training
    network = _new_network(job)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=plan.learning_rate,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        nesterov=True,
    )
    state_file = StateFile.of(job.folder)
    position = Position(iteration=0, elapsed_s=0.0)
    if resume:
        position = state_file.load(network, optimizer, job.configuration).position
    else:  # so that seed and length are known, however soon this training is killed
        state_file.save(network, optimizer, job.saved_state(iteration=0, elapsed_s=0.0))
    metrics = job.folder / "metrics.jsonl"
    drop_summaries_after(metrics, position.iteration)

    iteration, elapsed_s = position.iteration, position.elapsed_s
    started = time.monotonic() - elapsed_s
    saved_at = time.monotonic()
    sampler = make_sampler(job, "training")
    batches = prefetch(sampler.draw, itertools.count(iteration), job.threads, BATCHES_AHEAD)
    losses: list[torch.Tensor] = []
    last: StepOutcome | None = None
    while (fraction := job.budget.fraction(iteration, elapsed_s)) < 1 and not stop.is_set():
        rate = learning_rate(plan, fraction)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if last is not None:  # one step late, so that a GPU never waits for it
            _report(listener, last)
        batch = _augment(job, next(batches))
        loss = _loss(job, network, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), plan.gradient_clip_norm)
        optimizer.step()
        losses.append(loss.detach())
        iteration += 1
        elapsed_s = time.monotonic() - started
        fraction = job.budget.fraction(iteration, elapsed_s)
        last = StepOutcome(iteration, fraction, losses[-1], norm, batch.case_ids)

        if iteration % plan.iterations_per_epoch == 0 or fraction >= 1:
            _report(listener, last)
            summary = EpochSummary(
                epoch=(iteration - 1) // plan.iterations_per_epoch,
                iteration=iteration,
                elapsed_s=elapsed_s,
                learning_rate=rate,
                train_loss=float(torch.stack(losses).mean()),
                **_validate_patches(job, network),
            )
            append_summary(metrics, summary)
            listener.on_epoch(summary)
            last, losses = None, []
            elapsed_s = time.monotonic() - started
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S:
            _check_finite(last)
            state_file.save(network, optimizer, job.saved_state(iteration, elapsed_s))
            saved_at = time.monotonic()
    batches.close()
    _check_finite(last)
    state = job.saved_state(iteration, elapsed_s)
    state_file.save(network, optimizer, state)
    return network, state.position


def make_sampler(job: TrainingJob, purpose: str) -> PatchSampler:
    """The sampler of augmented training patches, or of plain patches of the held-out cases."""
    training = purpose == "training"
    configuration = job.configuration
    return PatchSampler(
        cases=job.train_cases if training else job.validation_cases,
        patch_size_vox=configuration.patch_box_vox,
        batch_size=configuration.batch_size,
        foreground_fraction=configuration.training.foreground_fraction,
        augmentation=configuration.augmentation if training else None,
        seed=job.seed,
        purpose="training" if training else "validation",
    )


def _new_network(job: TrainingJob) -> nn.Module:
    """The network with initial weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = build_network(
            job.configuration, len(job.configuration.normalization), job.labels.output_count
        )
    return network.to(job.device)


def _augment(job: TrainingJob, samples: Sequence[RawSample]) -> Batch:
    masked = [i for i, c in enumerate(job.configuration.normalization) if c.masked]
    batch = augment_batch(
        samples,
        job.configuration.patch_box_vox,
        masked,
        job.configuration.augmentation.planar,
        job.device,
    )
    if job.configuration.spatial_dims == 3:
        return batch
    return Batch(batch.image.squeeze(2), batch.label.squeeze(1), batch.case_ids)


def _forward(job: TrainingJob, network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Logits, highest resolution first; only that one without deep supervision."""
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.bf16):
        logits: list[torch.Tensor] = network(image, all_resolutions=True)
    return logits if job.configuration.network.deep_supervision else logits[:1]


def _loss(job: TrainingJob, network: nn.Module, batch: Batch) -> torch.Tensor:
    logits = _forward(job, network, batch.image)
    return deep_supervision_loss(logits, batch.label, job.configuration.loss)


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


@torch.no_grad()
def _validate_patches(job: TrainingJob, network: nn.Module) -> dict[str, object]:
    """Loss, and Dice per class, over the same random patches of the held-out cases every epoch.

    A quick look at how training goes; the fold's own figure comes from whole scans.
    """
    if not job.validation_cases:
        return {"validation_loss": None, "patch_dice": {}}
    network.eval()
    sampler = make_sampler(job, "validation")
    class_count = len(job.labels.values)
    counts = torch.zeros(2, class_count, device=job.device)  # [overlap and total, class]
    losses = []
    for step in range(job.configuration.training.validation_iterations):
        batch = _augment(job, sampler.draw(step))
        logits = _forward(job, network, batch.image)
        losses.append(deep_supervision_loss(logits, batch.label, job.configuration.loss))
        predicted = logits[0].argmax(1)
        truth = batch.label.long()
        both = predicted[predicted == truth]
        counts[0] += 2 * torch.bincount(both, minlength=class_count)
        counts[1] += torch.bincount(predicted.flatten(), minlength=class_count)
        counts[1] += torch.bincount(truth.flatten(), minlength=class_count)
    network.train()
    overlap, total = counts.tolist()
    dice = {
        name: overlap[index] / total[index] if total[index] else None
        for index, name in enumerate(job.labels.names)
        if index > 0
    }
    return {"validation_loss": float(torch.stack(losses).mean()), "patch_dice": dice}
