from pathlib import Path

import pytest

from autoseg.dataset.inputs import list_scans
from autoseg.errors import AutosegError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_numbered_files_are_channels_of_one_scan(tmp_path: Path) -> None:
    folder = touch(tmp_path, "b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nrrd", "a_0001.nrrd")
    scans = list_scans([folder], 2)
    assert [case.case_id for case in scans.cases] == ["a", "b"]
    assert [path.name for path in scans.cases[1].files()] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_a_year_is_no_channel_and_a_name_alone_is_a_scan(tmp_path: Path) -> None:
    scans = list_scans([touch(tmp_path, "scan_2019.nii.gz", "other.mha", "notes.txt")], 1)
    assert [case.case_id for case in scans.cases] == ["other", "scan_2019"]
    assert [case.channels[0].component for case in scans.cases] == [None, None]


def test_a_scan_that_lacks_a_channel_is_named_beside_the_others(tmp_path: Path) -> None:
    scans = list_scans([touch(tmp_path, "a_0000.nii", "b_0000.nii", "b_0001.nii")], 2)
    assert [case.case_id for case in scans.cases] == ["b"]
    assert scans.problems == [
        "a: has channels 0000, but the model needs 0000 to 0001. Add or remove files."
    ]


def test_scans_of_one_name_in_two_folders_are_refused(tmp_path: Path) -> None:
    folders = [touch(tmp_path / name, "a.nii.gz") for name in ("one", "two")]
    with pytest.raises(AutosegError, match="same mask as another scan"):
        list_scans(folders, 1)


@pytest.mark.parametrize("as_folder", [True, False])
def test_dicom_is_told_from_other_files_that_are_no_images(tmp_path: Path, as_folder: bool) -> None:
    path = tmp_path / "slice"
    path.write_bytes(bytes(128) + b"DICM" + bytes(10))
    with pytest.raises(AutosegError, match="DICOM, which must be converted first"):
        list_scans([tmp_path if as_folder else path], 1)
    path.write_bytes(b"text")
    with pytest.raises(AutosegError, match=r"no image that autoseg reads.*\.nii\.gz, "):
        list_scans([tmp_path if as_folder else path], 1)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="no such file or folder"):
        list_scans([tmp_path / "in"], 1)
