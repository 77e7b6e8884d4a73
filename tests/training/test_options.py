"""Every way to train that a plan can ask for.

Covers: execution, learner.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Event
from typing import Any, get_args

import numpy as np
import pytest
import torch

from autoseg import extensions
from autoseg.checkpoint import load_model, read_card, save_model
from autoseg.dataset.labels import IGNORED, LabelScheme, Region
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.model_plan import StageMaskInput
from autoseg.planning.network_plan import NetworkPlan
from autoseg.planning.run_plan import Execution, LossPlan, RandomRange
from autoseg.preprocessing.store import StoredCase
from autoseg.tasks.losses import Comparison
from autoseg.training import learner as learner_module
from autoseg.training.bookkeeping import card_at, state_files
from autoseg.training.execution import Trial, executed, fastest_run, laid_out
from autoseg.training.job import Training
from autoseg.training.learner import Learner, make_optimizer
from autoseg.training.metrics_log import Scores
from autoseg.training.trainer import train_model
from tests.training.blobs import CPU, Recorder, changed_training, training_in, training_with

OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "learning_rate": 3e-4, "momentum": 0.9},
    "muon": {"optimizer": "muon", "learning_rate": 3e-3, "momentum": 0.95},
    "cosine and warm-up": {"schedule": "cosine", "warmup_fraction": 0.2},
    "accumulation": {"accumulated_batches": 2},
    "moving mean": {"ema_decay": 0.9},
    "by chance": {"oversampling": "probabilistic"},
    "frozen": {"frozen": ("encoder.0",), "layer_decay": 0.8},
    "channels last": {"execution": "channels_last"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_any_training_learns_and_resumes_to_the_bit(tmp_path: Path, option: str) -> None:
    changes = OPTIONS[option]
    whole, first, second = Recorder(), Recorder(stop_at=7), Recorder()
    training = training_with(tmp_path / "whole", 15, **changes)
    network, _ = train_model(training, whole, Event(), resume=False)
    parts = training_with(tmp_path / "parts", 15, **changes)
    train_model(parts, first, first.stop, resume=False)
    resumed, _ = train_model(parts, second, Event(), resume=True)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert second.losses[-5:] == whole.losses[-5:]
    assert np.mean(whole.losses[-5:]) < whole.losses[0]


@pytest.mark.parametrize("kind", ["sgd", "muon"])
def test_frozen_parts_stay_and_far_layers_learn_slowly(tmp_path: Path, kind: str) -> None:
    training = training_with(tmp_path, 3, frozen=("encoder.0",), layer_decay=0.5, optimizer=kind)
    network, _ = train_model(training, Recorder(), Event(), resume=False)
    stopped = Event()
    stopped.set()
    start, _ = train_model(training_with(tmp_path / "b", 1), Recorder(), stopped, resume=False)
    stages = len(training.configuration.model.network.stages)
    unused = f"decoder.heads.{stages - 2}."
    for name, weight in network.state_dict().items():
        same = torch.equal(weight, start.state_dict()[name])
        assert same == (name.startswith(("encoder.0.", unused))), name
    optimizer = make_optimizer(network, training.configuration, CPU)
    factors = {group["rate_factor"]: len(group["params"]) for group in optimizer.param_groups}
    assert max(factors) == 1
    assert len(optimizer.param_groups) == len(factors) * (2 if kind == "muon" else 1)
    assert min(factors) == 0.5 ** (2 * (stages - 1) - 1)  # encoder.1, since encoder.0 is frozen


def test_a_frozen_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match=r"no part 'backbone'\. Parts: decoder, encoder"):
        train_model(training_with(tmp_path, 1, frozen=("backbone",)), Recorder(), Event(), False)


def test_the_moving_mean_is_what_its_formula_says(tmp_path: Path) -> None:
    training = training_with(tmp_path, 1, ema_decay=0.7)
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 1)
    learner = Learner(network, training.configuration, CPU)
    mean = network.weight.detach().clone()
    for step in range(30):
        loss = (network(torch.randn(1, 1, 2, 2, 2)) ** 2).mean()
        learner.add_gradient(loss)
        learner.step(0.05, step)
        decay = min(0.7, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * network.weight.detach()
    assert learner.average is not None
    torch.testing.assert_close(learner.model.get_parameter("weight"), mean)
    assert not torch.equal(mean, network.weight)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    network = torch.nn.Conv3d(1, 2, 1)
    training = training_with(tmp_path, 1, accumulated_batches=2)
    learner = Learner(network, training.configuration, CPU)
    x = torch.randn(4, 1, 2, 2, 2)
    for part in (x[:2], x[2:]):
        learner.add_gradient((network(part) ** 2).mean())
    accumulated = network.weight.grad
    network.zero_grad()
    (network(x) ** 2).mean().backward()
    assert accumulated is not None
    torch.testing.assert_close(accumulated, network.weight.grad)


def test_a_stalled_training_ends_early_and_is_finished(tmp_path: Path) -> None:
    training = training_with(
        tmp_path, 1000, early_stop_epochs=2, learning_rate=1e-9, keep_best=True
    )
    recorder = Recorder()
    _, position = train_model(training, recorder, Event(), resume=False)
    assert position.stopped_early
    assert position.iteration < 100
    assert state_files(training).read().position == position
    assert read_card(training.folder.best).chosen_on_validation
    again = Scores.read(training.folder.metrics)
    assert again.has_stalled(2)
    assert not again.has_stalled(None)
    _, resumed = train_model(training, Recorder(), Event(), resume=True)
    assert resumed == position  # killed before its cases were scored, it learns no more


def regions_and_ignored(training: Training) -> Training:
    """Nested regions, and a label that nobody drew beyond a few slices."""
    labels = LabelScheme(
        values=(0, 1, 2),
        names=("background", "shell", "core"),
        regions=(Region(name="whole", values=(1, 2)), Region(name="core", values=(2,))),
        region_order=(1, 2),
        ignore=3,
    )
    training = changed_training(training, task={"classes": 3, "regions": labels.region_classes()})
    return replace(
        training,
        card=training.card.model_copy(update={"labels": labels}),
        train_cases={n: _partly(c) for n, c in training.train_cases.items()},
        validation_cases={n: _partly(c) for n, c in training.validation_cases.items()},
    )


def _partly(case: StoredCase) -> StoredCase:
    label = case.label.copy()
    label[6:10, 7:11, 8:12] = 2
    image = case.image.copy()
    image[0][label == 2] += 3
    label[:4] = IGNORED
    return replace(
        case,
        image=image,
        label=label,
        class_locations={
            0: np.argwhere((label == 1) | (label == 2)).astype(np.uint16),
            1: np.argwhere(label == 2).astype(np.uint16),
        },
        annotated_locations=np.argwhere(label != IGNORED).astype(np.uint16),
    )


def test_regions_are_learned_from_what_is_annotated(tmp_path: Path) -> None:
    recorder = Recorder()
    training = regions_and_ignored(training_in(tmp_path, 150))
    network, _ = train_model(training, recorder, Event(), resume=False)
    dice = recorder.epochs[-1].patch_dice
    assert dice["whole"] is not None and dice["whole"] > 0.8
    assert dice["core"] is not None and dice["core"] > 0.4
    assert network(torch.zeros(1, 1, *training.configuration.model.patch_size_vox)).shape[1] == 2


def test_the_second_stage_sees_the_masks_of_the_first(tmp_path: Path) -> None:
    exact = {"mask_morphology_vox": RandomRange(probability=0, range=(1, 1))}
    training = changed_training(training_in(tmp_path, 150), augmentation=exact)
    rng = np.random.default_rng(0)

    def noise_with_mask(case: StoredCase) -> StoredCase:
        return replace(
            case,
            image=rng.normal(size=case.image.shape).astype(np.float32),
            maps={"stage_mask": case.label},
        )

    mask = StageMaskInput(stage="3d_lowres", classes=("blob",))
    inputs = (*training.configuration.model.inputs, mask)
    training = changed_training(training, model={"inputs": inputs})
    assert training.configuration.previous_stage == "3d_lowres"
    training = replace(
        training,
        train_cases={n: noise_with_mask(c) for n, c in training.train_cases.items()},
        validation_cases={n: noise_with_mask(c) for n, c in training.validation_cases.items()},
    )
    recorder = Recorder()
    train_model(training, recorder, Event(), resume=False)
    dice = recorder.epochs[-1].patch_dice["blob"]
    assert dice is not None and dice > 0.6  # which noise alone could not give


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_skips_steps_that_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, fused: bool
) -> None:
    monkeypatch.setattr(learner_module, "FUSED_ON", ("cpu",) if fused else ())
    training = training_with(tmp_path, 1, optimizer=optimizer)
    network = torch.nn.Conv3d(1, 2, 1)
    learner = Learner(network, training.configuration, CPU)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = network.weight.detach().clone()
    learner.add_gradient((network(torch.ones(1, 1, 2, 2, 2)) ** 2).mean() * 100)
    assert learner.step(0.1, 0) == 0  # so that nobody takes it for a broken training
    assert torch.equal(network.weight, before)
    assert learner.scaler.get_scale() == 2.0**126
    learner.scaler.update(1.0)
    learner.add_gradient((network(torch.ones(1, 1, 2, 2, 2)) ** 2).mean())
    assert 0 < learner.step(0.1, 1) < torch.inf
    assert not torch.equal(network.weight, before)


@pytest.mark.parametrize("execution", get_args(Execution)[:2])
def test_executions_change_no_result(execution: Execution) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3), torch.nn.Conv3d(4, 2, 1))
    image = torch.randn(2, 2, 6, 6, 6)
    expected = network(image)
    found = executed(network, execution)(laid_out(image, execution))
    torch.testing.assert_close(found, expected)


def test_without_a_compiler_networks_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(network: torch.nn.Module) -> torch.nn.Module:
        raise RuntimeError("no C++ compiler found\nwhere it was looked for")

    monkeypatch.setattr(torch, "compile", fails)
    network = torch.nn.Conv3d(1, 2, 3)
    plan = training_in(tmp_path, 1).configuration.model.network
    without = plan.model_copy(update={"deep_supervision": False})
    trial = Trial(network, without, torch.randn(1, 1, 8, 8, 8), CPU)
    chosen = fastest_run(trial, get_args(Execution), ("fp32",)).run
    assert chosen.execution in ("eager", "channels_last")
    assert "Networks are not run compiled here: no C++ compiler found" in caplog.text


def build_foreign(plan: NetworkPlan, channels: int, outputs: int) -> torch.nn.Module:
    """A network that knows nothing of deep supervision, nor of our names."""
    inner = torch.nn.Conv3d(channels, 4, 3, padding=1)
    return torch.nn.Sequential(inner, torch.nn.ReLU(), torch.nn.Conv3d(4, outputs, 1))


def foreign_loss(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    return seen.mean(seen.cross_entropy)


@pytest.fixture
def families_anew() -> Iterator[None]:
    """Families of other packages are looked up once in a process."""
    family_of.cache_clear()
    yield
    family_of.cache_clear()


@pytest.mark.usefixtures("families_anew")
def test_networks_and_losses_of_other_packages_train_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = "tests.training.test_options"
    points = {
        "autoseg.networks": EntryPoint("foreign", f"{here}:build_foreign", "autoseg.networks"),
        "autoseg.losses": EntryPoint("foreign_ce", f"{here}:foreign_loss", "autoseg.losses"),
    }
    monkeypatch.setattr(extensions, "entry_points", lambda group: [points[group]])
    training = changed_training(
        training_in(tmp_path, 10),
        network={"kind": "foreign", "deep_supervision": False},
        loss={"kind": "foreign_ce"},
    )
    recorder = Recorder()
    network, position = train_model(training, recorder, Event(), resume=False)
    assert recorder.losses[-1] < recorder.losses[0]
    save_model(tmp_path / "model.safetensors", network, card_at(training, position))
    card, loaded = load_model(tmp_path / "model.safetensors")
    assert card.configuration.model.network.kind == "foreign"
    assert loaded.state_dict().keys() == network.state_dict().keys()
    monkeypatch.setattr(extensions, "entry_points", lambda group: [])
    with pytest.raises(AutosegError, match="'foreign' is none of plain_unet, residual_unet"):
        load_model(tmp_path / "model.safetensors")
