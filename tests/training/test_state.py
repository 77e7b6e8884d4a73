from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import torch

from autoseg.errors import AutosegError
from autoseg.pipeline.jobs import TrainJob, _earlier
from autoseg.training import bookkeeping
from autoseg.training.bookkeeping import state_files
from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, changed_configuration, training_in


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, cut_to_nothing, Path.unlink])
def test_a_damaged_state_is_resumed_from_the_one_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    whole = training_in(tmp_path / "whole", 8)
    network, _ = train_model(whole, Recorder(), Event(), resume=False)
    monkeypatch.setattr(bookkeeping, "CHECKPOINT_INTERVAL_S", 0.0)
    training, first = training_in(tmp_path / "parts", 8), Recorder(stop_at=4)
    _, position = train_model(training, first, first.stop, resume=False)
    newest, previous = training.folder.state, training.folder.previous_state
    assert newest.is_file() and previous.is_file()
    damage(newest)
    files = state_files(training)
    assert files.exist()
    assert files.read().position.iteration == position.iteration
    assert "state.safetensors" in caplog.text and "The state before it is taken" in caplog.text
    resumed, _ = train_model(training, Recorder(), Event(), resume=True)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    caplog.clear()
    for path in (newest, previous):  # both can be read again
        assert type(files)(path, tmp_path / "none").read().position.iteration in (7, 8)
    assert files.read().position.iteration == 8
    assert caplog.text == ""


def test_a_damaged_state_never_takes_the_place_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "CHECKPOINT_INTERVAL_S", 0.0)
    training, first = training_in(tmp_path, 8), Recorder(stop_at=4)
    train_model(training, first, first.stop, resume=False)
    cut_short(training.folder.state)

    def no_space(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("autoseg.training.state.save_tensors", no_space)
    with pytest.raises(OSError, match="No space"):
        train_model(training, Recorder(), Event(), resume=True)
    assert state_files(training).read().position.iteration > 0


def test_a_training_without_any_whole_state_is_not_resumed(tmp_path: Path) -> None:
    training = training_in(tmp_path, 3)
    train_model(training, Recorder(), Event(), resume=False)
    for path in (training.folder.state, training.folder.previous_state):
        cut_short(path)
    with pytest.raises(AutosegError, match=r"previous\.safetensors: not a readable model file"):
        train_model(training, Recorder(), Event(), resume=True)


def test_another_plan_is_not_resumed(tmp_path: Path) -> None:
    training = training_in(tmp_path, 3)
    train_model(training, Recorder(), Event(), resume=False)
    job = TrainJob(fold=0, start="resume")
    same = _earlier(job, training.planned, training.folder)
    assert same is not None and same.position.iteration == 3
    other = changed_configuration(training.planned, loss={"batch_dice": True})
    with pytest.raises(AutosegError, match="begun with another plan"):
        _earlier(job, other, training.folder)
