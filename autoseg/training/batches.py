"""Batches on the training device: drawn, read ahead, augmented."""

import itertools
from collections.abc import Iterator, Sequence

from autoseg.augmentation.policy import BatchShape, augment_batch
from autoseg.augmentation.sample import Batch, RawSample
from autoseg.training.job import Training
from autoseg.training.prefetch import prefetch
from autoseg.training.sampling import PatchSampler, Purpose
from autoseg.training.workers import make_batches


class TrainingBatches:
    """An endless iterator of this process's share of every batch, from an iteration on.

    Close it, or leave its context, to end the threads or processes that read ahead.
    """

    def __init__(self, training: Training, iteration: int) -> None:
        self.training = training
        run = training.run
        sampler = make_sampler(training, "training")
        share = training.group.share(run.batch_size)
        steps = itertools.count(iteration * run.training.accumulated_batches)
        threads = training.threads
        if run.training.augment_on == "workers":
            self.samples = make_batches(sampler, share, steps, threads)
        else:
            self.samples = prefetch(lambda step: sampler.draw(step, share), steps, threads)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return on_device(self.training, next(self.samples))

    def close(self) -> None:
        self.samples.close()


def validation_batches(training: Training) -> Iterator[Batch]:
    """Plain patches of the held-out cases, the same every time and in batches of any size."""
    sampler, size = make_sampler(training, "validation"), training.run.batch_size
    for step in range(training.run.training.validation_iterations):
        samples = sampler.draw(step)
        for first in range(0, len(samples), size):
            yield on_device(training, samples[first : first + size])


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
