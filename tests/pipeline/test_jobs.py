"""Who may train a fold, and what a training that failed leaves to the next one."""

from pathlib import Path
from threading import Event
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.checkpoint import read_card
from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.lease import leased
from autoseg.pipeline.jobs import TrainJob, jobs_in_order
from autoseg.pipeline.train import train_fold
from autoseg.records import read_json, save_json
from autoseg.training.metrics_log import SilentListener
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, WorkFolder
from tests.pipeline.tiny import QUICK, plan_quickly, train, write_rules

DISK_IS_FULL = AutosegError("the disk is full. Run the same command again.")


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    """A plan of three scans."""
    write_dataset(tmp_path / "data", 3, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, write_rules(tmp_path / "tiny"))
    return work


def fails(*_: Any, **__: Any) -> None:
    raise DISK_IS_FULL


def test_a_fold_that_is_being_trained_is_left_alone_and_so_is_its_plan(
    tmp_path: Path, work: WorkFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = work.plan(None)
    folder = work.fold(plan.name, plan.recommended, 0)
    asked = ["--work", str(work.root)]
    again = ["plan", str(tmp_path / "data"), "--for", "cpu", "--rules", str(tmp_path / "tiny")]
    again += ["--workers", "1", "--set", *QUICK]
    with leased(work.fold_lease(plan.name, folder), str(folder.root)):
        for how in ([], ["--resume"], ["--overwrite"]):
            assert main(["train", "--fold", "1", "0", *how, *asked]) == 1
            assert f"{folder.root} is in use by" in capsys.readouterr().err
        for how in ([], ["--overwrite"]):
            assert main([*again, *asked, *how]) == 1
            assert f"{folder.root} is in use by" in capsys.readouterr().err
        assert jobs_in_order([TrainJob(fold=1, work=work.root)])
        assert main([*again, *asked, "--name", "beside"]) == 0


def test_nobody_trains_with_a_plan_that_is_being_made(work: WorkFolder) -> None:
    plan = work.plan(None)
    path = work.plan_path(plan.name)
    with (
        leased(work.plan_lease(plan.name), str(path)),
        pytest.raises(AutosegError, match=f"{path} is in use by"),
    ):
        train(work, fold=0)


def test_the_same_command_begins_again_what_failed_before_it_had_learnt_anything(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("autoseg.training.trainer.TrainingBatches", fails)
        with pytest.raises(AutosegError, match="disk is full"):
            train(work, fold=0)
    assert FoldFolder(train(work, fold=0).folder).model.is_file()


def test_the_same_command_scores_what_was_trained_when_scoring_failed(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("autoseg.pipeline.train.validate_fold", fails)
        with pytest.raises(AutosegError, match="disk is full"):
            train(work, fold=0)
    with pytest.raises(AutosegError, match="already holds a training"):
        train(work, fold=0, budget=Budget(iterations=9))
    assert train(work, fold=0).evaluation is not None
    with pytest.raises(AutosegError, match="already holds a training"):
        train(work, fold=0)


def test_a_training_that_was_stopped_on_its_way_is_only_resumed_when_told(
    work: WorkFolder,
) -> None:
    stop = Event()

    class StopsAtOnce(SilentListener):
        def on_step(self, iteration: int, fraction: float, loss: float) -> None:
            stop.set()

    job = TrainJob(fold=0, work=work.root, budget=Budget(iterations=50))
    assert not train_fold(job, StopsAtOnce(), stop).finished
    with pytest.raises(AutosegError, match="Go on with --resume"):
        train(work, fold=0, budget=Budget(iterations=50))


def test_a_finished_fold_says_what_would_train_it_longer(work: WorkFolder) -> None:
    assert train(work, fold=0).remarks == ()
    (remark,) = train(work, fold=0, start="resume").remarks
    assert "finished before" in remark and "--iterations of more than 2" in remark
    longer = train(work, fold=0, start="resume", budget=Budget(iterations=3))
    assert longer.iterations == 3


def change_labels(dataset: Path, case_ids: list[str], old: int | None, new: int) -> None:
    """Give voxels of a value, or all, another one."""
    for case_id in case_ids:
        path = dataset / "labelsTr" / f"{case_id}.nii.gz"
        image = nib.load(path)
        labels = np.asarray(image.dataobj).astype(np.uint8)
        labels[labels == old if old is not None else slice(None)] = new
        nib.save(nib.Nifti1Image(labels, image.affine), path)


def test_cases_without_any_annotation_are_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, work = tmp_path / "data", WorkFolder(tmp_path / "work")
    write_dataset(dataset, 3, shape_vox=(40, 36, 14))
    description = read_json(dataset / "dataset.json")
    description["labels"]["ignore"] = 9
    save_json(description, dataset / "dataset.json")
    change_labels(dataset, ["case_000", "case_001"], None, 9)
    plan_quickly(dataset, work, write_rules(tmp_path / "tiny"))
    folds = work.splits().folds
    seeing = next(i for i, fold in enumerate(folds) if "case_002" in fold.train)
    blind = next(i for i, fold in enumerate(folds) if "case_002" in fold.validation)
    trained = train(work, fold=seeing)
    assert "case_000, case_001: every voxel has the ignore label" in caplog.text
    assert read_card(FoldFolder(trained.folder).model).trained_cases == 1
    with pytest.raises(AutosegError, match=r"No case is left to train on: .*case_000, case_001"):
        train(work, fold=blind)


def test_a_class_that_a_fold_never_sees_is_named_before_and_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, work = tmp_path / "data", WorkFolder(tmp_path / "work")
    write_dataset(dataset, 3, shape_vox=(40, 36, 14))
    change_labels(dataset, ["case_000", "case_001"], 3, 2)
    plan = plan_quickly(dataset, work, write_rules(tmp_path / "tiny"))
    fold = next(i for i, fold in enumerate(work.splits().folds) if "case_002" in fold.validation)
    (remark,) = train(work, fold=fold).remarks
    told = (
        f"Fold {fold} never sees class {plan.labels.names[3]}: its only case case_002 is held out"
    )
    assert remark.startswith(told)
    assert told in caplog.text
