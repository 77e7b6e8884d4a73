"""Covers: job, validation."""

from pathlib import Path
from threading import Event

import pytest
import torch

from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, training_in


def test_training_learns_a_bright_blob(tmp_path: Path) -> None:
    recorder = Recorder()
    train_model(training_in(tmp_path, 150), recorder, Event(), resume=False)
    assert [s.iteration for s in recorder.epochs] == list(range(10, 151, 10))
    dice = recorder.epochs[-1].patch_dice["blob"]
    assert dice is not None
    assert dice > 0.8
    example = recorder.examples[-1]
    assert example.truth.shape == example.prediction.shape == (1, *example.image.shape)
    assert (example.truth & example.prediction).sum() > 0.5 * example.truth.sum()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 15


@pytest.mark.parametrize("dims", [2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path, dims: int) -> None:
    whole = Recorder()
    training = training_in(tmp_path / "whole", 15, dims=dims)
    network, _ = train_model(training, whole, Event(), resume=False)
    first, second = Recorder(stop_at=7), Recorder()
    training = training_in(tmp_path / "parts", 15, dims=dims)
    _, position = train_model(training, first, first.stop, resume=False)
    assert 7 <= position.iteration < 15
    resumed, _ = train_model(training, second, Event(), resume=True)
    assert f"Going on after {position.iteration} iterations." in second.messages
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert second.losses[-5:] == whole.losses[-5:]
