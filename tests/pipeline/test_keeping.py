"""Data sets that move, and what is kept for them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.checkpoint import read_card
from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.records import read_json, save_json
from autoseg.work_folder import FoldFolder, WorkFolder
from tests.pipeline.tiny import plan_quickly, train, write_rules


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    """A plan of three scans in `data`."""
    write_dataset(tmp_path / "data", 3, shape_vox=(40, 36, 14))
    work = WorkFolder(tmp_path / "work")
    plan_quickly(tmp_path / "data", work, write_rules(tmp_path / "tiny"))
    return work


def plan_again(dataset: Path, work: WorkFolder) -> None:
    plan_dataset(PlanJob(dataset=dataset, work=work.root), workers=1)


def test_a_fold_goes_on_from_what_is_prepared_and_is_scored_once_the_dataset_is_found(
    tmp_path: Path, work: WorkFolder, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(work, None, (), Resources(1))
    plan, folds = work.plan(None), work.splits()
    away = (tmp_path / "data").rename(tmp_path / "moved")
    result = train(work, fold=1)
    assert result.evaluation is None
    (remark,) = result.remarks
    assert f"{tmp_path / 'data'}: the dataset is not there" in remark
    assert remark in caplog.text  # before it was trained
    plan_again(away, work)
    assert (work.plan(None), work.splits(), work.dataset()) == (plan, folds, away)
    scored = train(work, fold=1, start="resume")
    assert scored.evaluation is not None
    assert read_card(FoldFolder(scored.folder).model).trained_iterations == 2
    assert prepare(work, None, (), Resources(1))[0] == 0  # the files are the same


def test_what_is_not_prepared_needs_the_dataset_which_is_said_before_all_else(
    tmp_path: Path, work: WorkFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "data").mkdir()  # where it is mounted, when it is
    assert main(["train", "--fold", "0", "--work", str(work.root)]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / 'data'}: the dataset is not there any more, and 3 of 3 cases" in told
    assert "autoseg plan NEW_PLACE" in told


def test_a_work_folder_and_its_dataset_move_together(tmp_path: Path, work: WorkFolder) -> None:
    assert read_json(work.root / "work.json")["dataset"] == "../data"
    (tmp_path / "mount").mkdir()
    for folder in ("data", "work"):
        (tmp_path / folder).rename(tmp_path / "mount" / folder)
    moved = WorkFolder(tmp_path / "mount" / "work")
    assert moved.dataset() == tmp_path / "mount" / "data"
    assert train(moved, fold=0).evaluation is not None


def test_another_dataset_is_refused_with_what_differs(tmp_path: Path, work: WorkFolder) -> None:
    other = tmp_path / "other"
    write_dataset(other, 4, shape_vox=(40, 36, 14))
    belongs = rf"belongs to the dataset {tmp_path / 'data'}, and {other} is another one: "
    with pytest.raises(AutosegError, match=rf"{belongs}new \(1\): case_003"):
        plan_again(other, work)
    for folder, name in (("imagesTr", "case_003_0000"), ("labelsTr", "case_003")):
        (other / folder / f"{name}.nii.gz").unlink()
    path = other / "imagesTr" / "case_001_0000.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)
    with pytest.raises(AutosegError, match=f"{belongs}case_001 is not what it was.*--work"):
        plan_again(other, work)
    assert work.dataset() == tmp_path / "data"


def give_folds(dataset: Path, *held_out: int) -> None:
    """Folds that hold out one scan each, beside the dataset."""
    cases = [f"case_{index:03d}" for index in range(3)]
    folds = [
        {"train": [c for c in cases if c != cases[index]], "val": [cases[index]]}
        for index in held_out
    ]
    save_json(folds, dataset / "splits_final.json")


def test_folds_that_a_dataset_gives_later_are_not_taken_without_a_word(
    tmp_path: Path, work: WorkFolder, caplog: pytest.LogCaptureFixture
) -> None:
    told = f"{work.splits_path} is kept, and is not what {tmp_path / 'data'} gives as folds"
    plan_quickly(tmp_path / "data", work, tmp_path / "tiny")
    assert "is kept" not in caplog.text
    kept = work.splits()
    give_folds(tmp_path / "data", 0, 1)
    plan_quickly(tmp_path / "data", work, tmp_path / "tiny")
    assert work.splits() == kept and told in caplog.text
    caplog.clear()
    work.splits_path.unlink()  # as it says
    for _ in range(2):
        plan_quickly(tmp_path / "data", work, tmp_path / "tiny")
    assert [fold.validation for fold in work.splits().folds] == [("case_000",), ("case_001",)]
    assert "is kept" not in caplog.text


def test_a_dataset_that_moved_and_gives_other_folds_now_is_told_of(
    tmp_path: Path, work: WorkFolder, caplog: pytest.LogCaptureFixture
) -> None:
    give_folds(tmp_path / "data", 0, 1)
    moved, kept = (tmp_path / "data").rename(tmp_path / "moved"), work.splits()
    plan_again(moved, work)
    assert work.splits() == kept
    assert f"{work.splits_path} is kept, and is not what {moved} gives as folds" in caplog.text


def test_given_folds_that_mix_patients_are_planned_twice_and_trained_with_a_remark(
    tmp_path: Path, work: WorkFolder
) -> None:
    data = tmp_path / "data"
    description = read_json(data / "dataset.json")
    description["patients"] = {"case_000": "anna", "case_001": "anna"}
    save_json(description, data / "dataset.json")
    give_folds(data, 0, 2)
    work.splits_path.unlink()
    for _ in range(2):
        plan_quickly(data, work, tmp_path / "tiny")
    (remark,) = train(work, fold=0).remarks
    assert remark.startswith("Fold 0 trains on some scans of anna and holds out others")
    assert str(work.splits_path) in remark
    assert train(work, fold=1).remarks == ()
