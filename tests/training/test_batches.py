import multiprocessing
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest
import torch

from autoseg.training.batches import (
    HeldOutPatches,
    TrainingBatches,
    first_batch,
    make_sampler,
)
from autoseg.training.metrics_log import EpochSummary
from autoseg.training.trainer import train_model
from autoseg.training.validation import Example
from tests.training.blobs import Recorder, changed_training, training_in, training_with


class FailsAtFirstEpoch(Recorder):
    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        raise OSError("the disk is full")


def read_ahead() -> list[str]:
    """Names of threads and processes that read ahead."""
    threads = [t.name for t in threading.enumerate() if t.name.startswith("sampling")]
    return threads + [process.name for process in multiprocessing.active_children()]


@pytest.mark.parametrize("place", ["device", "workers"])
def test_nothing_reads_ahead_after_a_training_failed(tmp_path: Path, place: str) -> None:
    training = training_with(tmp_path, 20, augment_on=place)
    # While the error is at hand nothing is collected that its traceback still knows.
    with pytest.raises(OSError, match="disk is full") as error:
        train_model(training, FailsAtFirstEpoch(), Event(), resume=False)
    deadline = time.monotonic() + 10
    while (left := read_ahead()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert error.traceback


def test_batches_begin_at_any_iteration(tmp_path: Path) -> None:
    training = training_in(tmp_path, 5)
    from_start, from_two = TrainingBatches(training, 0), TrainingBatches(training, 2)
    batches = [next(from_start) for _ in range(3)]
    assert torch.equal(batches[2].image, next(from_two).image)
    assert torch.equal(batches[0].image, first_batch(training).image)
    from_start.close()
    from_two.close()


def test_iterations_of_accumulated_batches_follow_each_other(tmp_path: Path) -> None:
    training = training_with(tmp_path, 5, accumulated_batches=2)
    from_start, from_one = TrainingBatches(training, 0), TrainingBatches(training, 1)
    batches = [next(from_start) for _ in range(3)]
    assert torch.equal(batches[2].image, next(from_one).image)
    from_start.close()
    from_one.close()


def test_held_out_patches_are_the_same_every_time(tmp_path: Path) -> None:
    training = training_in(tmp_path, 5)
    held_out = HeldOutPatches(training)
    once, again = (list(held_out.batches()) for _ in range(2))
    assert len(once) == training.run.training.validation_iterations
    for batch, other in zip(once, again, strict=True):
        assert set(batch.case_ids) == {"case_3"}
        assert torch.equal(batch.image, other.image)


@pytest.mark.parametrize("dims", [2, 3])
def test_batches_have_as_many_dimensions_as_the_network(tmp_path: Path, dims: int) -> None:
    training = training_in(tmp_path, 5, dims=dims)
    batch, run, patch = first_batch(training), training.run, training.configuration.model
    assert batch.image.shape == (run.batch_size, 1, *patch.patch_size_vox)
    assert batch.label.shape == (run.batch_size, *patch.patch_size_vox)
    assert len(patch.patch_size_vox) == dims


def test_held_out_patches_do_not_depend_on_the_batches_of_a_machine(tmp_path: Path) -> None:
    whole = changed_training(training_in(tmp_path, 5), run={"batch_size": 4})
    parts = changed_training(
        training_in(tmp_path, 5), run={"batch_size": 1}, training={"accumulated_batches": 4}
    )
    images = [torch.cat([b.image for b in HeldOutPatches(t).batches()]) for t in (whole, parts)]
    assert torch.equal(*images)
    sampler = make_sampler(parts, "validation")
    assert sampler.batch_size == 4  # of which the last are centred on foreground
