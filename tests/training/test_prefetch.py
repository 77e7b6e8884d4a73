import itertools
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from autoseg.augmentation.policy import no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.training.prefetch import MOST_STEPS_AHEAD, make_ahead, prefetch
from tests.training.test_sampling import case_of, sampler_of

Batches = Generator[list[RawSample], None, None]


def sample_of(size_bytes: int) -> RawSample:
    label = np.zeros((size_bytes, 1, 1), np.uint8)
    image = np.zeros((0, 1, 1, 1), np.float32)
    return RawSample("a", image, label, None, {}, np.zeros(3), no_augmentation(1))


@dataclass
class Maker:
    """Makes steps at once, and counts what was asked for."""

    size_bytes: Callable[[int], int]
    asked: list[int] = field(default_factory=list)

    def submit(self, step: int) -> Future[list[RawSample]]:
        self.asked.append(self.size_bytes(step))
        made: Future[list[RawSample]] = Future()
        made.set_result([sample_of(self.size_bytes(step))])
        return made

    def most_bytes_waiting(self, batches: Batches, steps: int) -> int:
        """Whenever a step is taken, that one included."""
        waiting = []
        for step in range(steps):
            next(batches)
            waiting.append(sum(self.asked[step:]))
        return max(waiting)


@pytest.mark.parametrize("threads", [1, 4])
def test_steps_come_in_order_and_do_not_depend_on_threads(threads: int) -> None:
    sampler = sampler_of(case_of((60, 60, 60), {1: (30, 31, 32)}))
    fetched = prefetch(sampler.draw, itertools.count(5), threads)
    for step in range(5, 15):
        for found, expected in zip(next(fetched), sampler.draw(step), strict=True):
            np.testing.assert_array_equal(found.image, expected.image)
    fetched.close()


def test_an_error_while_reading_is_raised_at_its_step() -> None:
    def draw(step: int) -> list[RawSample]:
        if step == 2:
            raise OSError("disk")
        return []

    fetched = prefetch(draw, iter(range(5)), threads=2)
    assert next(fetched) == next(fetched) == []
    with pytest.raises(OSError, match="disk"):
        next(fetched)


def test_what_waits_stays_within_its_bytes_though_steps_grow() -> None:
    maker = Maker(lambda step: 100 if step < 5 else 400)
    batches = make_ahead(maker.submit, itertools.count(), makers=1, most_bytes=2000)
    # Two unfinished steps of one maker may turn out to be larger than any before them.
    assert 1500 < maker.most_bytes_waiting(batches, 40) <= 2000 + 2 * 300


def test_steps_of_equal_size_never_pass_the_bound() -> None:
    maker = Maker(lambda step: 300)
    batches = make_ahead(maker.submit, itertools.count(), makers=8, most_bytes=2000)
    assert maker.most_bytes_waiting(batches, 40) == 1800


def test_small_steps_wait_in_a_bounded_number() -> None:
    maker = Maker(lambda step: 1)
    batches = make_ahead(maker.submit, itertools.count(), makers=8, most_bytes=2000)
    assert maker.most_bytes_waiting(batches, 400) <= MOST_STEPS_AHEAD + 1


def test_one_step_is_made_ahead_however_large() -> None:
    maker = Maker(lambda step: 300)
    batches = make_ahead(maker.submit, iter(range(6)), makers=8, most_bytes=1)
    for taken in range(1, 6):
        next(batches)
        assert len(maker.asked) == taken + 1
    next(batches)
    assert next(batches, None) is None


def test_no_more_steps_are_unfinished_than_keep_every_maker_busy() -> None:
    asked: list[Future[list[RawSample]]] = []

    def submit(step: int) -> Future[list[RawSample]]:
        asked.append(Future())
        if step == 0:
            asked[0].set_result([sample_of(1)])
        return asked[-1]

    batches = make_ahead(submit, itertools.count(), makers=3)
    next(batches)
    asked[1].set_result([sample_of(1)])
    next(batches)
    assert len(asked) == 2 + 6
