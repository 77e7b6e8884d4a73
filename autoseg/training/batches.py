"""Batches on the training device: drawn, read ahead, augmented."""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from autoseg.augmentation.batch import Batch
from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import RawSample
from autoseg.training.job import Training
from autoseg.training.lane import Lane
from autoseg.training.prefetch import prefetch
from autoseg.training.readers import Readers
from autoseg.training.sampling import PatchSampler, Purpose
from autoseg.training.workers import make_batches

READ_BY_PROCESSES_FOR = ("cuda",)  # which must not wait for a thread of ours
MOST_BYTES_KEPT = 2**29  # of patches of held-out cases
LENT_AT_ONCE = 1  # steps of samples, still on their way to the device


class Samples(Protocol):
    """The samples of one step after another, whose memory is given back once they are used."""

    def __next__(self) -> list[RawSample]: ...

    def give_back(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Owned:
    """Samples whose memory is nobody else's."""

    made: Generator[list[RawSample], None, None]

    def __next__(self) -> list[RawSample]:
        return next(self.made)

    def give_back(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        self.made.close()


class TrainingBatches:
    """An endless iterator of this process's share of every batch, from an iteration on.

    On a GPU batches are copied and augmented on a stream of their own, and `make_next` begins the
    next one while the network still works on the one before. Close it, or leave its context, to end
    the threads or processes that read ahead.
    """

    def __init__(self, training: Training, iteration: int) -> None:
        self.training = training
        run = training.run
        sampler = make_sampler(training, "training")
        share = training.group.share(run.batch_size)
        steps = itertools.count(iteration * run.training.accumulated_batches)
        self.lane = Lane(training.device.torch_device)
        self.samples: Samples
        if run.training.augment_on == "workers":
            self.samples = Owned(make_batches(sampler, share, steps, training.threads))
        elif training.device.torch_device.type in READ_BY_PROCESSES_FOR:
            self.samples = Readers(sampler, share, steps, training.threads)
            self.lane.pin(self.samples.memory.view)
        else:
            made = prefetch(lambda step: sampler.draw(step, share), steps, training.threads)
            self.samples = Owned(made)
        self.ahead: Batch | None = None
        self.lent: deque[torch.cuda.Event | None] = deque()  # samples that are copied by then

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, self.ahead = self.ahead or self._make(), None
        self.lane.hand_over(batch.tensors())
        return batch

    def make_next(self) -> None:
        """Ask the device for the next batch already; a CPU would do nothing else meanwhile."""
        if self.lane.is_separate:
            self.ahead = self._make()

    def close(self) -> None:
        self.lane.close()
        self.samples.close()

    def _make(self) -> Batch:
        samples = next(self.samples)
        with self.lane:
            batch = on_device(self.training, samples)
        self.lent.append(self.lane.done)
        while len(self.lent) > LENT_AT_ONCE:
            if (copied := self.lent.popleft()) is not None:
                copied.synchronize()  # long past
            self.samples.give_back()
        return batch


class HeldOutPatches:
    """Plain patches of the held-out cases, always the same; read once, unless they are large. Each
    process has a share of them."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.sampler = make_sampler(training, "validation")
        self.kept: dict[int, list[RawSample]] = {}  # by step
        self.kept_bytes = 0

    def batches(self) -> Iterator[Batch]:
        """This process's, in batches of any size."""
        size, group = self.training.run.batch_size, self.training.group
        for step in range(self.training.run.training.validation_iterations)[
            group.rank :: group.world_size
        ]:
            samples = self._samples(step)
            for first in range(0, len(samples), size):
                yield on_device(self.training, samples[first : first + size])

    def _samples(self, step: int) -> list[RawSample]:
        if step in self.kept:
            return self.kept[step]
        samples = self.sampler.draw(step)
        size_bytes = sum(sample.size_bytes for sample in samples)
        if self.kept_bytes + size_bytes <= MOST_BYTES_KEPT:
            self.kept[step] = samples
            self.kept_bytes += size_bytes
        return samples


def first_batch(training: Training) -> Batch:
    """This process's share of the first batch of a training."""
    share = training.group.share(training.run.batch_size)
    return on_device(training, make_sampler(training, "training").draw(0, share))


def make_sampler(training: Training, purpose: Purpose) -> PatchSampler:
    """The sampler of augmented training patches, or of plain patches of the held-out cases."""
    for_training = purpose == "training"
    run = training.run
    return PatchSampler(
        cases=training.train_cases if for_training else training.validation_cases,
        patch_size_vox=training.configuration.model.patch_box_vox,
        batch_size=run.batch_size if for_training else run.step_samples,
        training=run.training,
        augmentation=run.augmentation if for_training else None,
        seed=training.seed,
        purpose=purpose,
    )


def on_device(training: Training, samples: Sequence[RawSample]) -> Batch:
    """Samples as a batch, augmented, in as many dimensions as the network has."""
    configuration = training.configuration
    shape = BatchShape(
        patch_size_vox=configuration.model.patch_box_vox,
        masked_channels=configuration.grid.masked_channels,
        planar=configuration.run.augmentation.planar,
    )
    batch = augment_batch(samples, shape, training.device.torch_device)
    return batch if configuration.model.spatial_dims == 3 else batch.as_slices()
