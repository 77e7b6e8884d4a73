"""From a dataset to models: cascades, regions, several devices, a model to start from.

Covers: cascade, executors, figures, prepare, planning.overrides.
"""

import json
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from autoseg.checkpoint import read_card
from autoseg.cli import main
from autoseg.cli.arguments import make_parser
from autoseg.cli.environment import cache_folder
from autoseg.cli.verbs.train import train_jobs
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.evaluation.metrics import OVERLAPS
from autoseg.images.volume import read_image
from autoseg.inference.predictor import Predictor
from autoseg.lease import leased
from autoseg.pipeline.executors import command, train_on
from autoseg.pipeline.jobs import TrainJob, jobs_in_order
from autoseg.pipeline.train import train_fold
from autoseg.records import read_json, save_json
from autoseg.training.metrics_log import SilentListener
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, WorkFolder
from tests.pipeline.tiny import QUICK, plan_quickly, train, write_rules


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "tiny")


def test_a_cascade_trains_its_first_stage_before_its_second(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(56, 56, 40))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    job = TrainJob(
        fold=0,
        work=work.root,
        configuration="3d_cascade_fullres",
        budget=Budget(iterations=2),
    )
    order = jobs_in_order([job])
    assert [(r.configuration, r.fold) for r in order] == [
        ("3d_lowres", 0),
        ("3d_lowres", 1),
        ("3d_cascade_fullres", 0),
    ]
    with pytest.raises(AutosegError, match=r"(?s)case_000: no fold of 3d_lowres has predicted it"):
        train_fold(job, SilentListener(), Event())
    results = [train_fold(j, SilentListener(), Event()) for j in order]
    again = job.model_copy(update={"start": "over"})
    assert jobs_in_order([again]) == [again]
    plan = work.plan(None)
    second = work.fold(plan.name, "3d_cascade_fullres", 1)
    with leased(work.fold_lease(plan.name, second), str(second.root)):
        first_over = order[0].model_copy(update={"start": "over"})
        with pytest.raises(AutosegError, match=f"{second.root} is in use by"):
            train_fold(first_over, SilentListener(), Event())
        with pytest.raises(AutosegError, match=f"{second.root} is in use by"):
            jobs_in_order([first_over])
        assert jobs_in_order([again]) == [again]
    stages = [FoldFolder(result.folder).model for result in (results[0], results[2])]
    with pytest.raises(AutosegError, match="needs a model of 3d_lowres beside it"):
        Predictor.load(stages[1:])
    scan = tmp_path / "data" / "imagesTr" / "case_001_0000.nii.gz"
    arguments = ["predict", str(scan), str(tmp_path / "out"), "--work", str(work.root)]
    assert main([*arguments, "--configuration", "3d_cascade_fullres"]) == 0
    mask = nib.load(tmp_path / "out" / "case_001.nii.gz")
    np.testing.assert_array_equal(mask.affine, nib.load(scan).affine)
    predictor = Predictor.load(stages)
    assert predictor.groups[0].previous is not None
    first = Predictor.load(stages[:1])(read_image(scan)).labels.array
    assert first.shape == mask.shape[::-1]


def write_regions(folder: Path) -> None:
    """Nested regions, and slices that nobody annotated."""
    write_dataset(folder, 2, shape_vox=(40, 36, 14))
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(path)
        labels = np.asarray(image.dataobj).astype(np.uint8)
        labels[:, :, :3] = 9
        nib.save(nib.Nifti1Image(labels, image.affine), path)
    description = read_json(folder / "dataset.json")
    description["labels"] = {
        "background": 0,
        "whole": [1, 2, 3],
        "inner": [2, 3],
        "lesion": [3],
        "ignore": 9,
    }
    description["regions_class_order"] = [1, 2, 3]
    save_json(description, folder / "dataset.json")


def test_regions_and_an_ignore_label_go_all_the_way(tmp_path: Path, rules: Path) -> None:
    write_regions(tmp_path / "data")
    work = WorkFolder(tmp_path / "work")
    plan = plan_quickly(tmp_path / "data", work, rules)
    assert plan.labels.ignore == 9
    result = train(work, fold=0, configuration="3d_fullres", budget=Budget(iterations=40))
    evaluation = result.evaluation
    assert evaluation is not None
    assert list(evaluation.classes) == ["whole", "inner", "lesion"]
    assert tuple(evaluation.metrics) == OVERLAPS  # others would take time
    case_id = next(iter(evaluation.cases))
    mask = nib.load(FoldFolder(result.folder).mask(case_id))
    truth = nib.load(tmp_path / "data" / "labelsTr" / f"{case_id}.nii.gz")
    found, expected = np.asarray(mask.dataobj), np.asarray(truth.dataobj)
    annotated = expected != 9
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    for name, values in (("whole", (1, 2, 3)), ("inner", (2, 3))):
        a, b = np.isin(found, values) & annotated, np.isin(expected, values) & annotated
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert evaluation.cases[case_id][name]["dice"] == pytest.approx(dice)
    whole = evaluation.classes["whole"]["dice"]
    assert whole is not None and whole > 0.3


def test_objects_of_held_out_scans_are_written(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    things = [name for name in content["labels"] if name != "background"][:1]
    path.write_text(json.dumps(content | {"things": things}))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    folder = FoldFolder(train(work, fold=0, budget=Budget(iterations=2)).folder)
    [case_id] = work.splits().folds[0].validation
    told = json.loads((folder.validation / "instances" / f"{case_id}.json").read_text())
    numbers = np.asarray(nib.load(folder.validation / "instances" / f"{case_id}.nii.gz").dataobj)
    assert len(told) == numbers.max()


@pytest.mark.slow
def test_folds_train_at_once_on_several_devices(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan = plan_quickly(tmp_path / "data", work, rules)
    budget = Budget(iterations=2)
    jobs = [TrainJob(fold=f, work=work.root, budget=budget, seed=3) for f in (0, 1)]
    train_on(["cpu", "cpu"], jobs, Event())
    for fold in (0, 1):
        folder = work.fold(plan.name, plan.recommended, fold)
        card = read_card(folder.model)
        assert card.trained_iterations == 2
        assert card.held_out == work.splits().folds[fold].validation


def test_a_fold_that_fails_in_its_process_is_named(
    tmp_path: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr("autoseg.pipeline.executors.command", lambda job: failing)
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    job = TrainJob(fold=0, work=work.root, budget=Budget(iterations=2))
    with pytest.raises(AutosegError, match=r"fold 0: its process ended with exit code 1"):
        train_on(["gpu:9"], [job], Event())


@pytest.mark.slow
def test_torchrun_trains_every_fold_with_two_processes(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan = plan_quickly(tmp_path / "data", work, rules)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    asked = ["-m", "autoseg", "train", "--work", str(work.root), "--iterations", "3"]
    done = subprocess.run([*torchrun, *asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out cases, predicted in full") == 2
    for fold in (0, 1):
        folder = work.fold(plan.name, plan.recommended, fold)
        assert read_card(folder.model).trained_iterations == 3


def test_a_process_is_told_all_that_was_asked(tmp_path: Path) -> None:
    job = TrainJob(
        fold=None,
        work=tmp_path,
        plan="p",
        budget=Budget(seconds=9000),
        device="gpu:1",
        start="resume",
        initial_model=Path("m"),
    )
    words = command(job)
    assert words[0] == sys.executable
    text = " ".join(words[1:])
    assert text.startswith(f"-m autoseg train --fold all --work {tmp_path} --device gpu:1")
    assert "--plan p --minutes 150.0 --init m --resume" in text


def test_a_process_understands_the_job_as_it_was_meant(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    for given in (
        {"fold": 1, "configuration": "2d", "budget": Budget(epochs=3), "seed": 7},
        {"fold": None, "plan": "p", "budget": Budget(seconds=100), "start": "over"},
        {"fold": 0, "budget": Budget(iterations=9), "initial_model": Path("m"), "device": "gpu:1"},
        {"fold": 0, "start": "resume"},
    ):
        job = TrainJob.model_validate({"work": work.root, "cache": cache_folder()} | given)
        told = make_parser().parse_args(command(job)[3:])
        assert train_jobs(told) == [job]


def test_training_starts_from_a_model_of_other_labels(
    tmp_path: Path, rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    model = FoldFolder(train(work, fold=0).folder).model
    write_regions(tmp_path / "other")
    arguments = ["plan", str(tmp_path / "other"), "--work", str(tmp_path / "new"), "--for", "cpu"]
    settings = ["--set", *QUICK]
    assert main([*arguments, "--like", str(model), *settings]) == 0
    asked = ["--fold", "0", "--iterations", "2", "--init", str(model)]
    assert main(["train", "--work", str(tmp_path / "new"), *asked]) == 0
    shown = capsys.readouterr().err
    assert f"Started from {model}" in shown
    assert "adapted to other channels, labels or kernels: decoder.heads." in shown


def test_masks_of_models_that_saw_the_cases_never_train_a_second_stage(
    tmp_path: Path, rules: Path
) -> None:
    write_dataset(tmp_path / "data", 3, shape_vox=(56, 56, 40))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    job = TrainJob(
        fold=0,
        work=work.root,
        configuration="3d_cascade_fullres",
        budget=Budget(iterations=1),
    )
    for stage in jobs_in_order([job])[:-1]:
        train_fold(stage, SilentListener(), Event())
    folds = read_json(work.root / "splits.json")
    folds["folds"] = folds["folds"][1:] + folds["folds"][:1]
    save_json(folds, work.root / "splits.json")
    with pytest.raises(AutosegError, match="has seen cases that are held out now"):
        train_fold(job, SilentListener(), Event())


def test_short_memory_says_what_to_change_and_by_how_much(
    tmp_path: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules, "batch_size=4")

    def too_much(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("autoseg.training.trainer.train_model", too_much)
    requested = r"4 patches of .*--set batch_size=2 training.accumulated_batches=2.*--measure"
    with pytest.raises(AutosegError, match=requested):
        train(work, fold=0)


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    folder = FoldFolder(train(work, fold=0).folder)
    before = folder.state.read_bytes()

    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if folder.resume not in self.parents:
            return write(self, content)
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(AutosegError, match="disk is full"):
            train(work, fold=0, start="resume", budget=Budget(iterations=4))
    assert [path.read_bytes() for path in folder.resume.iterdir()] == [before]
    assert train(work, fold=0, start="resume", budget=Budget(iterations=4)).iterations == 4


def test_settings_are_checked_and_remembered(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(synthetic_dataset), "--work", str(tmp_path / "w"), "--for", "cpu"]
    wrong = [
        "training.epoch=5",
        "batch_size=few",
        "2d.patch_size_vox=[6,6]",
        "patch_size_vox=[8,8,8]",
        "loss.focal_gamma=0",
        "loss.class_weights=[1,2]",
        "name=2d",
        "training.epochs",
    ]
    assert main([*arguments, "--set", *wrong]) == 1
    shown = capsys.readouterr().err
    assert "--set training.epoch=5: a plan has no such key. Did you mean training.epochs?" in shown
    assert "--set batch_size=few: must be a whole number, not 'few'." in shown
    assert "a patch of this network must be a multiple of" in shown
    assert "a patch of 2d has 2 sizes" in shown
    assert "loss.focal_gamma=0: must be" in shown
    assert "4 weights are needed" in shown
    assert "name=2d: this follows from the dataset" in shown
    assert "training.epochs: expected KEY=VALUE" in shown
    chosen = ["training.epochs=7", "3d_fullres.training.optimizer=sgd"]
    assert main([*arguments, "--set", *chosen, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    trainings = {name: c["run"]["training"] for name, c in plan["configurations"].items()}
    assert {t["epochs"] for t in trainings.values()} == {7}
    assert trainings["3d_fullres"]["optimizer"] == "sgd"
    assert trainings["2d"]["optimizer"] == "muon"
    assert main(["explain", "run.training.epochs", "--work", str(tmp_path / "w")]) == 0
    assert "set by hand; the rules had decided 40" in capsys.readouterr().out


def test_an_earlier_training_stays_until_another_one_can_begin(tmp_path: Path, rules: Path) -> None:
    write_dataset(tmp_path / "data", 2, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, rules)
    trained = FoldFolder(train(work, fold=0, configuration="3d_fullres").folder)
    (damaged,) = (work.root / "prepared").glob("*/case_000.prepared")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(bytes(content))
    with pytest.raises(AutosegError, match="prepare --verify"):
        train(work, fold=0, configuration="3d_fullres", start="over")
    assert trained.model.is_file() and trained.summary.is_file() and trained.state.is_file()
