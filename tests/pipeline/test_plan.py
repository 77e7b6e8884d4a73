"""Covers: check, planning.likeness."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoseg.checkpoint import ModelCard, build_network, read_card, save_model
from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.planning.model_plan import ScanInput
from autoseg.planning.plan import Plan
from autoseg.records import read_json, save_json
from autoseg.training.initialization import initialize_from
from autoseg.work_folder import WorkFolder


def make_plan(dataset: Path, work: Path, **job: Any) -> Plan:
    return plan_dataset(PlanJob(dataset=dataset, work=work, **job), workers=1).plan


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
    save_model(path, build_network(configuration.model), card)
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
    for field in ("target_spacing_mm", "orientation", "axis_order"):
        assert getattr(kept.grid, field) == getattr(source.grid, field)
    for field in ("patch_size_vox", "network"):
        assert getattr(kept.model, field) == getattr(source.model, field)
    assert kept.grid.normalization[0].statistics == source.grid.normalization[0].statistics
    assert kept.run.training.epochs == 40  # the schedule is that of the new data's rules
    reasons = {d.name: d.because for d in plan.decisions}
    assert {"loss", "training", "expectation"} <= set(reasons)
    assert not {"features", "pooling", "memory_gib"} & set(reasons)  # of a network not used
    assert "model.safetensors" in reasons["patch_size_vox"]
    assert list(plan.configurations) == ["3d_fullres"]


def test_where_there_is_no_gpu_a_plan_needs_no_torch(
    tmp_path: Path, synthetic_dataset: Path
) -> None:
    plan = [str(synthetic_dataset), "--work", str(tmp_path), "--workers", "1"]
    code = (
        "import sys; sys.modules['torch'] = None; from autoseg import machine; "
        "machine.may_have_gpu = lambda: False; "
        f"from autoseg.cli import main; sys.exit(main({['plan', *plan]}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(WorkFolder(tmp_path).plan(None).expected) == {"2d", "3d_fullres"}


def with_channels(plan: Plan, *names: str) -> Plan:
    """The plan as of data with these channels, normalised alike."""
    one = plan.configurations["3d_fullres"]
    channels = tuple(
        one.grid.normalization[0].model_copy(update={"channel": name, "kind": "ct"})
        for name in names
    )
    inputs = (ScanInput(channels=names),)
    changed = one.model_copy(
        update={
            "grid": one.grid.model_copy(update={"normalization": channels}),
            "model": one.model.model_copy(update={"inputs": inputs}),
        }
    )
    return plan.model_copy(
        update={"configurations": {"3d_fullres": changed}, "channel_names": names}
    )


@pytest.mark.parametrize(
    ("names", "kind", "note"),
    [
        (("b", "MRI"), "ct", "adapts the first layer by name: MRI kept"),
        (("a", "b"), "zscore", "MRI begins as the mean of the model's"),
    ],
)
def test_a_plan_like_a_model_of_other_channels_says_what_becomes_of_the_first_layer(
    tmp_path: Path,
    synthetic_dataset: Path,
    other_dataset: Path,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, str],
    kind: str,
    note: str,
) -> None:
    original = make_plan(synthetic_dataset, tmp_path / "one", target="cpu")
    model = save_untrained(with_channels(original, *names), tmp_path / "two_channels.safetensors")
    plan = make_plan(other_dataset, tmp_path / "two", target="cpu", like=model)
    kept = plan.configurations["3d_fullres"]
    assert kept.model.channel_names == plan.channel_names == ("MRI",)
    assert [n.kind for n in kept.grid.normalization] == [kind]
    assert note in caplog.text
    assert note in next(d.because for d in plan.decisions if d.name == "network")
    card = read_card(model).model_copy(update={"configuration": kept, "channel_names": ("MRI",)})
    started = initialize_from(build_network(kept.model), card, model)
    assert len(started.adapted) == 1


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


def test_a_plan_of_an_older_format_is_refused_until_it_is_made_anew(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = WorkFolder(tmp_path / "work")
    plan = make_plan(synthetic_dataset, work.root, target="cpu")
    path = work.plan_path(plan.name)
    new = read_json(path)
    model = work.fold(plan.name, plan.recommended, 0).model
    model.parent.mkdir(parents=True)
    for older in (new | {"format_version": 1}, {k: new[k] for k in new if k != "format_version"}):
        save_json(older, path)
        model.touch()
        again = ["plan", str(synthetic_dataset), "--for", "cpu", "--workers", "1"]
        for words in (["explain"], ["prepare"], ["train", "--fold", "0"], again):
            assert main([*words, "--work", str(work.root)]) == 1
            told = capsys.readouterr().err
            assert "cpu.json: a plan of format 1, where this version of autoseg knows 2" in told
            assert "`autoseg plan DATASET --overwrite`" in told and "--name" in told
        assert model.exists()
        assert main([*again, "--work", str(work.root), "--overwrite"]) == 0
        assert work.plan(None).configurations == plan.configurations
        assert not model.exists()
        model.parent.mkdir(parents=True)


def test_a_work_folder_of_an_older_version_is_planned_anew_when_it_may_be(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = WorkFolder(tmp_path / "work")
    make_plan(synthetic_dataset, work.root, target="cpu")
    state = read_json(work.root / "work.json")
    del state["format_version"]
    state["machine"] = {"gpu_name": None, "gpu_memory_gb": 0.0, "cores": 2, "memory_gb": 16.0}
    save_json(state, work.root / "work.json")
    again = ["plan", str(synthetic_dataset), "--for", "cpu", "--workers", "1"]
    for words in (["explain"], ["prepare"], ["train", "--fold", "0"], again):
        assert main([*words, "--work", str(work.root)]) == 1
        told = capsys.readouterr().err
        assert "another version of autoseg made this work folder" in told
        assert "--overwrite" in told
    assert main([*again, "--work", str(work.root), "--overwrite"]) == 0
    assert work.state().current_plan == "cpu"
