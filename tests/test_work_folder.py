import os
from pathlib import Path

import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.splits import Fold, Splits
from autoseg.errors import AutosegError
from autoseg.machine import machine_for
from autoseg.work_folder import WorkFolder, WorkState


def test_a_folder_without_a_plan_says_what_to_run(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work")
    assert not work.is_planned()
    with pytest.raises(AutosegError, match=r"nothing is planned here yet\. Run `autoseg plan"):
        work.state()


def test_models_are_found_where_folds_lie(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    folders = [work.fold("mine", "3d_fullres", fold) for fold in (1, None)]
    assert [folder.root.name for folder in folders] == ["fold_1", "fold_all"]
    assert not work.has_models("mine")
    for folder in folders:
        folder.root.mkdir(parents=True)
        folder.model.touch()
    assert work.has_models("mine")
    found = work.trained_models("mine", "3d_fullres")
    assert found == [folder.model for folder in folders]


@pytest.mark.parametrize(
    ("dataset", "written"),
    [
        ("project/data", "../data"),
        ("project/data/inner", "../data/inner"),
        ("project/work/data", "data"),
        ("project", ".."),
        ("elsewhere/data", None),
    ],
)
def test_a_dataset_beside_or_above_is_written_down_so_that_both_can_move(
    tmp_path: Path, dataset: str, written: str | None
) -> None:
    place = WorkFolder(tmp_path / "project" / "work").place_of(tmp_path / dataset)
    assert place == (written or str(tmp_path / dataset))


def test_a_folder_that_cannot_be_written_to_suggests_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkFolder(tmp_path / "new" / "work").check_writable()
    (tmp_path / "file").touch()
    with pytest.raises(AutosegError, match=r"file is no folder.*another work folder with --work"):
        WorkFolder(tmp_path / "file" / "work").check_writable()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(AutosegError, match=r"nothing can be saved here.*--work"):
        WorkFolder(tmp_path / "work").check_writable()


@pytest.mark.parametrize(
    ("train", "validation", "mistake"),
    [
        ("", "b", "there is no case to train on (train is empty)"),
        ("ab", "", "no case is held out (validation is empty)"),
        ("ab", "bc", "b is both trained on and held out"),
        ("aab", "c", "a is listed more than once in train"),
        ("ab", "cz", "z is in its folds, but not in the dataset"),
    ],
)
def test_folds_that_were_edited_by_mistake_are_refused(
    tmp_path: Path, train: str, validation: str, mistake: str
) -> None:
    work = WorkFolder(tmp_path)
    state = {"dataset": "data", "layout": "nnunet_raw", "machine": machine_for("cpu")}
    work.save_state(WorkState(**state, current_plan="default"))
    edited = Fold(train=tuple(train), validation=tuple(validation))
    right = Fold(train=("a", "b"), validation=("c",))
    work.save_splits(Splits(cases=("a", "b", "c"), folds=(right, edited)))
    cases = tuple(Case(name, (), None, name) for name in "abc")
    dataset = Dataset(tmp_path, "nnunet_raw", ("CT",), None, cases)
    with pytest.raises(AutosegError) as told:
        work.fold_cases(dataset, 0)
    assert f"{tmp_path / 'splits.json'}: fold 1: {mistake}" in str(told.value)
    assert "Correct the file, or delete it and run `autoseg plan` again" in str(told.value)
