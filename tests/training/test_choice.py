import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from autoseg.checkpoint import build_network
from autoseg.device import Precision
from autoseg.training import choice
from autoseg.training.bookkeeping import card_at, state_files
from autoseg.training.choice import chosen_run, run_again
from autoseg.training.execution import HowToRun, RunChoice, Trial
from autoseg.training.job import Training
from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, training_in, training_with

BOTH: tuple[Precision, ...] = ("fp32", "bf16")


def on_a_machine(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], fails: str = "none"
) -> list[str]:
    """Steps take so long by precision or execution; which were tried is listed."""
    tried: list[str] = []

    def measured(trial: Trial, way: str) -> float:
        tried.append(f"{way} {trial.device.precision}")
        if way.startswith(fails):
            raise RuntimeError("no compiler")
        return seconds[trial.device.precision] * seconds.get(way, 1.0)

    monkeypatch.setattr(Trial, "seconds", measured)
    monkeypatch.setattr(choice, "precisions_to_try", lambda device: BOTH)
    return tried


def choose(training: Training) -> HowToRun:
    return chosen_run(training, build_network(training.configuration.model))


@pytest.mark.parametrize(("bf16_s", "expected"), [(0.5, "bf16"), (0.97, "fp32"), (90, "fp32")])
def test_a_precision_is_chosen_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16_s: float, expected: str
) -> None:
    on_a_machine(monkeypatch, {"fp32": 1.0, "bf16": bf16_s})
    training = replace(training_in(tmp_path / "fold", 1), cache=tmp_path / "kept")
    assert choose(training).precision == expected


def test_what_was_chosen_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = on_a_machine(monkeypatch, {"fp32": 1.0, "bf16": 0.5, "channels_last": 0.8})
    training = training_with(tmp_path / "fold", 1, execution="fastest")
    training = replace(training, cache=tmp_path / "kept")
    expected = HowToRun(execution="channels_last", precision="bf16")
    assert choose(training) == expected
    assert tried[:2] == ["eager fp32", "eager bf16"] and len(tried) == 5
    assert choose(training) == expected and len(tried) == 5
    (path,) = (tmp_path / "kept").iterdir()
    kept = RunChoice.model_validate(json.loads(path.read_text()))
    assert kept.seconds["channels_last bf16"] == 0.4
    path.write_text("{")
    assert choose(training) == expected and len(tried) == 10  # a damaged file is none


def test_what_compiles_is_not_tried_unless_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = on_a_machine(monkeypatch, {"fp32": 1.0, "bf16": 2.0, "channels_last": 0.8})
    training = training_with(tmp_path / "fold", 1, execution="fastest_uncompiled")
    expected = HowToRun(execution="channels_last", precision="fp32")
    assert choose(replace(training, cache=tmp_path / "kept")) == expected
    assert tried == ["eager fp32", "eager bf16", "channels_last fp32"]


def test_nothing_is_measured_where_it_would_not_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = on_a_machine(monkeypatch, {"fp32": 1.0, "bf16": 0.1})
    assert choose(training_in(tmp_path, 1)) == HowToRun(execution="eager", precision="fp32")
    assert tried == []


def test_what_does_not_run_here_is_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"fp32": 1.0, "bf16": 1.0, "compiled": 0.1}
    on_a_machine(monkeypatch, quick)
    training = training_with(tmp_path / "fold", 1, execution="fastest")
    training = replace(training, cache=tmp_path / "kept")
    assert choose(training).execution == "compiled"
    on_a_machine(monkeypatch, quick, fails="compiled")  # the compiler was removed since
    assert choose(training).execution == "eager"


def test_state_and_card_say_what_a_training_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, {"fp32": 1.0, "bf16": 0.5})
    training = replace(training_in(tmp_path / "fold", 1), cache=tmp_path / "kept")
    _, position = train_model(training, Recorder(), Event(), resume=False)
    state = state_files(training).read()
    assert state.precision == "bf16"
    assert card_at(training.computing_in(state.precision), position).trained_precision == "bf16"
    network: Any = build_network(training.configuration.model)
    assert run_again(training, network, state).precision == "bf16"
    elsewhere = state.model_copy(update={"precision": "fp16"})  # of a GPU
    assert run_again(training, network, elsewhere).precision == "fp32"
