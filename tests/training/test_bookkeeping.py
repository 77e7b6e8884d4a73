"""Covers: metrics_log."""

import itertools
import json
import math
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from autoseg.checkpoint import read_tensors
from autoseg.errors import AutosegError
from autoseg.training import bookkeeping
from autoseg.training import learner as learner_module
from autoseg.training.bookkeeping import SKIPPED_IN_A_ROW, state_files
from autoseg.training.job import Training
from autoseg.training.learner import Learner
from autoseg.training.trainer import train_model
from tests.training.blobs import CPU, Recorder, training_in, training_with

Weights = dict[str, torch.Tensor]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Weights]]:
    """The gradient's norm and the weights after every step of a training, in order."""
    taken: list[tuple[float, Weights]] = []
    step = Learner.step

    def remembered(self: Learner, learning_rate: float, iteration: int) -> torch.Tensor:
        norm = step(self, learning_rate, iteration)
        now = {name: value.clone() for name, value in self.network.state_dict().items()}
        taken.append((float(norm), now))
        return norm

    monkeypatch.setattr(Learner, "step", remembered)
    return taken


class StopAtMessage(Recorder):
    """Stops a training when it is told of a skipped step."""

    def on_message(self, text: str) -> None:
        self.stop.set()


def metrics_of(training: Training) -> list[dict[str, Any]]:
    """Lines of the training's metrics, but for the time that it took."""
    lines = [json.loads(line) for line in training.folder.metrics.read_text().splitlines()]
    timed = ("elapsed_s", "remaining_s")
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def test_a_step_that_is_not_finite_is_skipped_counted_and_told(
    tmp_path: Path, steps: list[tuple[float, Weights]]
) -> None:
    recorder, training = Recorder(), training_in(tmp_path, 30, broken=[2])
    _, position = train_model(training, recorder, Event(), resume=False)
    assert position.iteration == len(steps) == 30
    skipped = [i for i, (norm, _) in enumerate(steps) if not math.isfinite(norm)]
    assert 3 <= len(skipped) < 30
    for (_, before), (norm, after) in itertools.pairwise(steps):
        same = all(torch.equal(before[name], weight) for name, weight in after.items())
        assert same == (not math.isfinite(norm))
    told = [message for message in recorder.messages if "The step is skipped" in message]
    assert len(told) == len(skipped)
    for index, message in zip(skipped, told, strict=True):
        assert f"at iteration {index + 1}, in a batch of " in message and "case_2" in message
    assert len(recorder.losses) == 30 - len(skipped)
    lines = metrics_of(training)
    counted = [sum(10 * e <= i < 10 * e + 10 for i in skipped) for e in range(3)]
    assert [line["skipped_steps"] for line in lines] == counted
    assert all(math.isfinite(line["train_loss"]) for line in lines if line["skipped_steps"] < 10)


def test_the_loss_of_an_epoch_is_that_of_the_steps_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Learner.step

    def overflows(self: Learner, learning_rate: float, iteration: int) -> torch.Tensor:
        if iteration in (2, 5):  # though the loss is finite
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(torch.inf)
        return step(self, learning_rate, iteration)

    monkeypatch.setattr(Learner, "step", overflows)
    recorder, training = Recorder(), training_in(tmp_path, 10)
    train_model(training, recorder, Event(), resume=False)
    (line,) = metrics_of(training)
    assert len(recorder.losses) == 8
    assert line["skipped_steps"] == 2
    assert line["train_loss"] == pytest.approx(sum(recorder.losses) / 8)


def test_ten_in_a_row_end_the_training_with_the_names_of_the_cases(tmp_path: Path) -> None:
    recorder, training = Recorder(), training_in(tmp_path, 30, broken=[0, 1, 2])
    expected = r"(?s)loss became nan.*at iteration 10, in a batch of case_.*So did the 9 steps"
    with pytest.raises(AutosegError, match=expected):
        train_model(training, recorder, Event(), resume=False)
    assert len(recorder.messages) == SKIPPED_IN_A_ROW - 1
    assert state_files(training).read().position.iteration == 0


def test_a_training_that_skipped_steps_resumes_to_the_same_account(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = training_in(tmp_path / "whole", 20, broken=[2])
    network, _ = train_model(whole, Recorder(), Event(), resume=False)
    parts, first = training_in(tmp_path / "parts", 20, broken=[2]), StopAtMessage()
    _, position = train_model(parts, first, first.stop, resume=False)
    assert position.skipped > 0 and position.iteration % 10 > 0
    second = Recorder()
    resumed, _ = train_model(parts, second, Event(), resume=True)
    assert caplog.text == ""  # of a state that could not be read
    assert len(second.losses) <= 20 - position.iteration
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert metrics_of(parts) == metrics_of(whole)


def test_an_epoch_that_was_interrupted_has_its_whole_loss(tmp_path: Path) -> None:
    whole = training_in(tmp_path / "whole", 20)
    train_model(whole, Recorder(), Event(), resume=False)
    parts, first = training_in(tmp_path / "parts", 20), Recorder(stop_at=15)
    _, position = train_model(parts, first, first.stop, resume=False)
    assert 15 <= position.iteration < 20
    second = Recorder()
    train_model(parts, second, Event(), resume=True)
    assert metrics_of(parts) == metrics_of(whole)
    assert len(second.losses) < 10  # which alone would have another mean


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_changes_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, fused: bool, value: float
) -> None:
    monkeypatch.setattr(learner_module, "FUSED_ON", ("cpu",) if fused else ())
    network = torch.nn.Conv3d(1, 2, 1)
    training = training_with(tmp_path, 1, optimizer=optimizer)
    learner = Learner(network, training.configuration, CPU)
    assert learner.optimizer.defaults["fused"] is fused
    image = torch.ones(1, 1, 2, 2, 2)
    for factor, learns in ((value, False), (1.0, True), (value, False), (1.0, True)):
        before = network.weight.detach().clone()
        learner.add_gradient((network(image) ** 2).mean() * factor)
        norm = learner.step(0.1, 0)
        assert bool(torch.isfinite(norm)) == learns
        assert torch.equal(network.weight, before) != learns
    assert all(torch.isfinite(moment).all() for _, moment in learner.named_moments())


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "CHECKPOINT_INTERVAL_S", 0.0)
    training = training_in(tmp_path, 30, broken=[0, 1, 2])
    with pytest.raises(AutosegError, match="case_2"):
        train_model(training, Recorder(), Event(), resume=False)
    assert state_files(training).read().position.iteration == SKIPPED_IN_A_ROW - 1
    for path in (training.folder.state, training.folder.previous_state):
        tensors, _ = read_tensors(path)
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
