from pathlib import Path

import pytest

from autoseg.errors import AutosegError
from autoseg.work_folder import WorkFolder


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
