"""The training loop, to be read in one go."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event

import numpy as np
import torch
from torch import nn

from autoseg.augmentation.batch import Batch
from autoseg.checkpoint import build_network
from autoseg.device import Threads
from autoseg.networks.family import all_outputs
from autoseg.networks.inputs import network_input
from autoseg.planning.run_plan import Execution
from autoseg.tasks import task_of
from autoseg.tasks.task import Task
from autoseg.training.batches import HeldOutPatches, TrainingBatches
from autoseg.training.bookkeeping import Bookkeeping, StepOutcome, state_files
from autoseg.training.choice import chosen_run, run_again
from autoseg.training.execution import executed, laid_out
from autoseg.training.initialization import initialize_from
from autoseg.training.job import Training
from autoseg.training.learner import Learner
from autoseg.training.metrics_log import TrainingListener
from autoseg.training.schedule import learning_rate
from autoseg.training.state import Position
from autoseg.training.validation import PatchScores, score_patches


def train_model(
    training: Training, listener: TrainingListener, stop: Event, resume: bool
) -> tuple[nn.Module, Position]:
    """Train a network until its budget is used, or until `stop` is set between two iterations.

    The state is saved at least every five minutes and at the end. Raises AutosegError naming the
    cases of the batch when ten steps in a row are not finite.
    """
    run, group = training.run, training.group
    task = task_of(training.configuration, training.card.labels)
    books = _begin(training, listener, resume)
    training = books.training
    learner, execution = books.learner, books.execution
    network = group.wrap(executed(learner.network, execution))
    held_out = HeldOutPatches(training)
    with (
        closing(TrainingBatches(training, books.iteration)) as batches,
        closing(Threads(training.device)) as threads,
    ):
        while True:
            threads.follow()
            ends = float(stop.is_set() or books.stalled)
            fraction, ends = group.broadcast(books.fraction, ends)
            if fraction >= 1 or ends:
                break
            losses: list[torch.Tensor] = []
            case_ids: list[str] = []
            for left in reversed(range(run.training.accumulated_batches)):
                batch = next(batches)
                with (
                    group.gradients_shared(network, now=not left),
                    draws_of(training, books.iteration, left),
                ):
                    outputs = _forward(training, network, batch, execution)
                    loss = task.loss(
                        outputs, task.targets(batch.label, batch.objects), group.all_reduce
                    )
                    learner.add_gradient(loss)
                losses.append(loss.detach())
                case_ids += batch.case_ids
                batches.make_next()
            rate = learning_rate(run.training, fraction)
            norm = learner.step(rate, books.iteration)
            books.end_step(StepOutcome(torch.stack(losses).mean(), norm, tuple(case_ids)))
            if books.epoch_ends:
                books.look_at_last()
                found = _look(held_out, learner.model, task)
                group.main_alone(partial(books.end_epoch, found, rate), "ending an epoch")
                books.forget_epoch()
            books.save_if_due()
    books.save()
    return learner.model, books.position


def _begin(training: Training, listener: TrainingListener, resume: bool) -> Bookkeeping:
    """Everything as it is at the start, or as it was when the training stopped."""
    network = _new_network(training, listener, resume)
    states = state_files(training)
    run = run_again(training, network, states.read()) if resume else chosen_run(training, network)
    training = training.computing_in(run.precision)
    learner = Learner(network, training.configuration, training.device)
    if resume:
        position = states.load(learner).position
        listener.on_message(f"Going on after {position.iteration} iterations.")
        return Bookkeeping(training, listener, learner, run.execution, position)
    start = Position(iteration=0, elapsed_s=0.0)
    books = Bookkeeping(training, listener, learner, run.execution, start)
    books.save()  # so that seed and length are known, however soon this training is killed
    return books


def _new_network(training: Training, listener: TrainingListener, resume: bool) -> nn.Module:
    """The network with initial weights that depend on the seed, or on a model to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = build_network(training.configuration.model)
    if training.initial_model is not None and not resume:
        loaded = initialize_from(network, training.card, training.initial_model)
        listener.on_message(loaded.text())
    return network.to(training.device.torch_device)


def _forward(
    training: Training, network: nn.Module, batch: Batch, execution: Execution
) -> list[torch.Tensor]:
    """Outputs of every resolution that is trained, highest first."""
    model = training.configuration.model
    seen = network_input(batch.image, batch.maps, model.inputs)
    with training.device.autocast():
        return all_outputs(network, laid_out(seen, execution), model.network)


@contextmanager
def draws_of(training: Training, iteration: int, left: int) -> Iterator[None]:
    """What a network draws by itself, such as dropout, depends on seed, step and process alone."""
    device = training.device.torch_device
    key = (training.seed, iteration, left, training.group.rank)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        yield


def _look(held_out: HeldOutPatches, network: nn.Module, task: Task) -> PatchScores:
    """Scores of patches of the held-out cases; nothing where none is held out."""
    training = held_out.training
    if not training.validation_cases:
        return PatchScores()
    network.eval()
    with draws_of(training, 0, 0):  # what a loss draws: the same for every look
        found = score_patches(
            held_out.batches(),
            lambda batch: _forward(training, network, batch, "eager"),
            task,
            training.device.torch_device,
            training.group.all_reduce,
        )
    network.train()
    return found
