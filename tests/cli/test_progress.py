"""What a training says of itself in a file, and on a terminal."""

import time

import pytest

from autoseg.cli.progress import SECONDS_OF_SILENCE, TrainingView
from autoseg.training.metrics_log import EpochSummary

EPOCH = EpochSummary(
    epoch=0, iteration=250, elapsed_s=74.0, learning_rate=0.01, train_loss=-0.4,
    validation_loss=None, patch_dice={"organ": 0.77},
)  # fmt: skip


def told(live: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written in an epoch whose steps take ten seconds, and in the one after it."""
    now_s, lines = [0.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with TrainingView("0", lines.append, live) as view:
        for step in range(1, 20):
            now_s[0] = 10.0 * step
            view.on_step(step, step / 40, 0.5)
            if step == 10:
                view.on_epoch(EPOCH, ())
    return lines


def test_in_a_file_the_first_epoch_is_followed_and_later_ones_are_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = told(False, monkeypatch)
    assert len(lines) == 100 // (SECONDS_OF_SILENCE + 10) + 1
    assert lines[0].startswith("fold 0  iteration 4") and lines[0].endswith("left\n")
    assert "epoch    0" in lines[-1] and "organ 0.770" in lines[-1]


def test_on_a_terminal_each_step_rewrites_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(True, monkeypatch)
    assert sum("iteration" in line and "epoch" not in line for line in lines) == 19
    assert not any(line.endswith("left\n") for line in lines)
