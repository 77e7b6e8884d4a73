from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.checkpoint import ModelCard, read_tensors
from autoseg.dataset.dataset import LabelScheme
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set
from autoseg.preprocessing.store import StoredCase
from autoseg.training import trainer
from autoseg.training.metrics_log import EpochSummary
from autoseg.training.schedule import Budget
from autoseg.training.state import StateFile
from autoseg.training.trainer import TrainingJob, train_model
from autoseg.training.validation import Example
from tests.planning.specified import CPU, Scans, made_up_fingerprint


class Recorder:
    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.epochs: list[EpochSummary] = []
        self.messages: list[str] = []
        self.examples: list[Example] = []
        self.stop_at = stop_at
        self.stop = Event()

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.losses.append(loss)
        if iteration == self.stop_at:
            self.stop.set()

    def on_epoch(self, summary: EpochSummary, examples: Sequence[Example]) -> None:
        self.epochs.append(summary)
        self.examples += examples


def make_case(seed: int) -> StoredCase:
    """A bright blob on noise."""
    rng = np.random.default_rng(seed)
    shape = (16, 18, 20)
    label = np.zeros(shape, np.uint8)
    label[5:11, 6:12, 7:13] = 1
    image = rng.normal(size=shape) + 3 * ndimage.gaussian_filter(label.astype(float), 1)
    voxels = np.argwhere(label).astype(np.uint16)
    return StoredCase(shape, image[None].astype(np.float32), label, None, {1: voxels})


def job_in(folder: Path, iterations: int, broken: bool = False) -> TrainingJob:
    plan = make_plan(
        made_up_fingerprint(Scans((16, 18, 20), (1, 1, 1), count=50)), load_rule_set("cpu"), CPU
    )
    configuration = plan.configurations["3d_fullres"]
    stages = tuple(
        s.model_copy(update={"features": 4 * 2**i})
        for i, s in enumerate(configuration.network.stages)
    )
    configuration = configuration.model_copy(
        update={
            "network": configuration.network.model_copy(update={"stages": stages}),
            "training": configuration.training.model_copy(
                update={"iterations_per_epoch": 10, "validation_iterations": 2}
            ),
        }
    )
    cases = {f"case_{i}": make_case(i) for i in range(4)}
    if broken:
        cases["case_2"].image[:] = np.inf
    folder.mkdir(exist_ok=True)
    card = ModelCard(
        plan_name="cpu",
        configuration=configuration,
        labels=LabelScheme(values=(0, 1), names=("background", "blob")),
        channel_names=("image",),
        fold=0,
        trained_cases=3,
        trained_iterations=0,
        trained_seconds=0,
    )
    return TrainingJob(
        card=card,
        train_cases={c: cases[c] for c in list(cases)[:3]},
        validation_cases={"case_3": cases["case_3"]},
        budget=Budget(iterations=iterations),
        folder=folder,
        device=Device(torch.device("cpu"), "fp32"),
        threads=2,
        seed=1,
    )


def test_training_learns_a_bright_blob(tmp_path: Path) -> None:
    recorder = Recorder()
    train_model(job_in(tmp_path, 150), recorder, Event(), resume=False)
    assert [s.iteration for s in recorder.epochs] == list(range(10, 151, 10))
    dice = recorder.epochs[-1].patch_dice["blob"]
    assert dice is not None
    assert dice > 0.8
    example = recorder.examples[-1]
    assert example.truth.shape == example.prediction.shape == (1, *example.image.shape)
    assert (example.truth & example.prediction).sum() > 0.5 * example.truth.sum()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 15


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    whole = Recorder()
    network, _ = train_model(job_in(tmp_path / "whole", 25), whole, Event(), resume=False)
    first, second = Recorder(stop_at=12), Recorder()
    _, position = train_model(job_in(tmp_path / "parts", 25), first, first.stop, resume=False)
    assert 12 <= position.iteration < 25
    resumed, _ = train_model(job_in(tmp_path / "parts", 25), second, Event(), resume=True)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert second.losses[-5:] == whole.losses[-5:]


def test_a_loss_that_is_not_finite_names_the_cases_and_keeps_the_state(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match=r"(?s)loss became nan.*case_2"):
        train_model(job_in(tmp_path, 30, broken=True), Recorder(), Event(), resume=False)
    assert StateFile.of(tmp_path).read().position.iteration == 0


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "CHECKPOINT_INTERVAL_S", 0.0)
    with pytest.raises(AutosegError, match="case_2"):
        train_model(job_in(tmp_path, 30, broken=True), Recorder(), Event(), resume=False)
    state = StateFile.of(tmp_path)
    if state.exists():
        tensors, _ = read_tensors(state.path)
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_another_plan_is_not_resumed(tmp_path: Path) -> None:
    job = job_in(tmp_path, 3)
    train_model(job, Recorder(), Event(), resume=False)
    other = job_in(tmp_path, 3)
    loss = other.configuration.loss.model_copy(update={"batch_dice": True})
    configuration = other.configuration.model_copy(update={"loss": loss})
    card = other.card.model_copy(update={"configuration": configuration})
    changed = replace(other, card=card)
    with pytest.raises(AutosegError, match="begun with another plan"):
        train_model(changed, Recorder(), Event(), resume=True)
