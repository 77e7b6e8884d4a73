from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from autoseg.training.pace import Pace, surprise
from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, training_in


def test_what_is_left_follows_the_last_minutes_not_the_first() -> None:
    pace = Pace()
    for second in range(0, 1000, 10):  # slow, while others use the machine
        pace.see(second, second * 1e-4)
    for second in range(1000, 2000, 10):  # four times as fast
        pace.see(second, 0.1 + (second - 1000) * 4e-4)
    assert pace.seconds_left(2000, 0.5) == pytest.approx(0.5 / 4e-4, rel=0.01)
    assert len(pace.looks) < 40


def test_without_two_looks_nothing_is_said_of_what_is_left() -> None:
    pace = Pace()
    assert pace.seconds_left(0, 0) is None
    pace.see(0, 0.5)
    assert pace.seconds_left(0, 0.5) is None
    assert pace.seconds_left(10, 0.75) == 10


@pytest.mark.parametrize(("epoch_s", "told"), [(100, False), (140, False), (200, True), (50, True)])
def test_far_off_is_more_than_one_and_a_half_times(epoch_s: float, told: bool) -> None:
    said = surprise(epoch_s, 100, 7200)
    assert (said is not None) == told
    assert said is None or "about 2.0 hours are left" in said
    assert surprise(epoch_s, None, None) is None


def test_a_training_says_once_that_it_takes_longer_than_planned(tmp_path: Path) -> None:
    recorder = Recorder()
    training = replace(training_in(tmp_path, 30), expected_epoch_s=1e-3)
    train_model(training, recorder, Event(), resume=False)
    assert len(recorder.epochs) == 3
    assert [m for m in recorder.messages if "the plan expected" in m] == recorder.messages
    assert len(recorder.messages) == 1
    lefts = [summary.remaining_s for summary in recorder.epochs]
    assert lefts[0] is not None and lefts[0] > 0 and lefts[-1] == 0
