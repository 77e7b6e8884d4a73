import json
import re
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

import autoseg.pipeline.measuring
from autoseg.checkpoint import ModelCard, build_network, save_model
from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.pipeline.measuring import measured_plan, plan_that_fits
from autoseg.pipeline.plan import PlanRequest, plan_dataset
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.rules import load_rule_set
from autoseg.training.measure import measure_training
from autoseg.work_folder import WorkFolder


def make_plan(dataset: Path, work: Path, **request: Any) -> Plan:
    return plan_dataset(dataset, WorkFolder(work), PlanRequest(**request), workers=1).plan


def save_untrained(plan: Plan, path: Path, name: str = "3d_fullres") -> Path:
    configuration = plan.configuration(name)
    card = ModelCard(
        plan_name=plan.name,
        configuration=configuration,
        labels=plan.labels,
        channel_names=plan.channel_names,
        fold=0,
        trained_cases=1,
        trained_iterations=1,
        trained_seconds=1.0,
    )
    network = build_network(configuration, plan.labels)
    save_model(path, network, card)
    return path


@pytest.fixture
def other_dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "other", 5, shape_vox=(30, 28, 12))
    return tmp_path / "other"


def test_a_plan_like_a_model_keeps_all_that_its_weights_need(
    tmp_path: Path, synthetic_dataset: Path, other_dataset: Path
) -> None:
    original = make_plan(synthetic_dataset, tmp_path / "one", target="cpu", rules="nnunet")
    model = save_untrained(original, tmp_path / "model.safetensors")
    plan = make_plan(other_dataset, tmp_path / "two", target="cpu", like=model)
    kept, source = plan.configurations["3d_fullres"], original.configurations["3d_fullres"]
    for field in ("target_spacing_mm", "patch_size_vox", "network", "orientation", "axis_order"):
        assert getattr(kept, field) == getattr(source, field)
    assert kept.normalization[0].statistics == source.normalization[0].statistics
    assert kept.training.epochs == 40  # the schedule is that of the new data's rules
    reasons = {d.name: d.because for d in plan.decisions}
    assert {"loss", "training", "expectation"} <= set(reasons)
    assert not {"features", "pooling", "memory_gib"} & set(reasons)  # of a network not used
    assert "model.safetensors" in reasons["patch_size_vox"]
    assert list(plan.configurations) == ["3d_fullres"]


def test_models_that_do_not_suit_the_data_are_refused(
    tmp_path: Path, synthetic_dataset: Path, other_dataset: Path
) -> None:
    original = make_plan(synthetic_dataset, tmp_path / "one", target="cpu")
    plan = original.model_copy(
        update={
            "configurations": {
                "3d_fullres": original.configurations["3d_fullres"].model_copy(
                    update={"normalization": original.configurations["2d"].normalization * 2}
                )
            },
            "channel_names": ("a", "b"),
        }
    )
    model = save_untrained(plan, tmp_path / "two_channels.safetensors")
    with pytest.raises(AutosegError, match="the model has 2 channels, but the dataset has 1"):
        make_plan(other_dataset, tmp_path / "two", target="cpu", like=model)


def test_a_training_step_is_really_run(tmp_path: Path, synthetic_dataset: Path) -> None:
    plan = make_plan(synthetic_dataset, tmp_path / "work", target="cpu")
    measurement = measure_training(
        plan.configurations["3d_fullres"], plan.labels, Device(torch.device("cpu"), "fp32")
    )
    assert measurement.peak_memory_gib is not None and measurement.step_seconds is not None
    assert 0.005 < measurement.peak_memory_gib < 4
    assert 0.001 < measurement.step_seconds < 60


def test_what_does_not_fit_is_planned_smaller(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PlanRequest(rules="nnunet", target="cpu")
    outcome = plan_dataset(synthetic_dataset, WorkFolder(tmp_path / "work"), request, workers=1)
    measured: list[int] = []  # voxels of each batch

    def pretend(configuration: Configuration, plan: Plan) -> tuple[float | None, float | None]:
        measured.append(configuration.batch_size * prod(configuration.patch_size_vox))
        if len(measured) == 1:
            return None, None  # out of memory
        return (4.0, 1.0) if len(measured) == 2 else (1.5, 0.25)

    monkeypatch.setattr(autoseg.pipeline.measuring, "measure", pretend)
    monkeypatch.setattr(autoseg.pipeline.measuring, "usable_memory_gib", lambda machine: 2.0)
    plan = measured_plan(outcome.plan, outcome.fingerprint, load_rule_set("nnunet"), None)
    assert measured[0] > measured[1] > measured[2]
    decision = next(
        d for d in plan.decisions if (d.name, d.configuration) == ("expectation", "3d_fullres")
    )
    assert decision.rule_id == "expectation.measured"
    assert (decision.value["memory_gib"], decision.value["step_seconds"]) == (1.5, 0.25)


def test_training_begins_with_a_batch_that_fits(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(synthetic_dataset, tmp_path / "work", target="cpu", rules="nnunet")
    large = plan.configurations["3d_fullres"].model_copy(update={"batch_size": 8})
    plan = plan.model_copy(update={"configurations": {"3d_fullres": large}})

    def pretend(configuration: Configuration, plan: Plan) -> tuple[float | None, float | None]:
        return configuration.batch_size * 0.01, 0.5

    monkeypatch.setattr(autoseg.pipeline.measuring, "measure", pretend)
    fitting = plan_that_fits(plan, "3d_fullres", usable_gib=0.05)
    assert fitting.configurations["3d_fullres"].batch_size == 4
    assert any(d.rule_id == "batch_size.measured" for d in fitting.decisions)
    assert plan_that_fits(fitting, "3d_fullres", usable_gib=0.05) == fitting
    with pytest.raises(AutosegError, match="do not fit into"):
        plan_that_fits(plan, "3d_fullres", usable_gib=0.001)


def test_measuring_on_a_machine_that_is_elsewhere_is_refused(
    tmp_path: Path, synthetic_dataset: Path
) -> None:
    with pytest.raises(AutosegError, match="--measure runs on this machine"):
        make_plan(synthetic_dataset, tmp_path / "work", target="gpu:24", measure=True)


def test_warnings_are_on_the_plans_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data", 5, shape_vox=(24, 22, 10))
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    content["labels"]["ghost"] = 9
    path.write_text(json.dumps(content))
    work = ["--work", str(tmp_path / "work"), "--workers", "1", "--for", "cpu"]
    assert main(["plan", str(tmp_path / "data"), *work]) == 0
    screen = capsys.readouterr().out
    assert "Warning: label 9 (ghost) is declared, but no scan has it" in screen
    assert re.search(
        r"\d [GM]iB of memory, .* minutes an epoch, .* a fold .*, at most \d+ MiB of disk", screen
    )


def test_check_lists_everything_and_fails_only_on_errors(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(synthetic_dataset), "--workers", "1"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    write_dataset(tmp_path / "data", 4, shape_vox=(24, 22, 10))
    image = tmp_path / "data" / "imagesTr" / "case_001_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    (tmp_path / "data" / "labelsTr" / "case_002.nii.gz").unlink()
    assert main(["check", str(tmp_path / "data"), "--workers", "1", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    found = {(p["kind"], p["case_id"]) for p in report["problems"]}
    assert found == {("missing_file", "case_002"), ("unreadable", "case_001")}
    assert main(["check", str(tmp_path / "data"), "--workers", "1"]) == 1
    table = capsys.readouterr().out
    assert "error" in table and "case_001_0000.nii.gz" in table and "2 errors" in table
