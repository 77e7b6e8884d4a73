from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

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
    with pytest.raises(AutosegError, match="cannot be read as DICOM"):
        list_scans([tmp_path if as_folder else path], 1)
    path.write_bytes(b"text")
    with pytest.raises(AutosegError, match=r"no image that autoseg reads.*\.nii\.gz, "):
        list_scans([tmp_path if as_folder else path], 1)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="no such file or folder"):
        list_scans([tmp_path / "in"], 1)


def save_picture(path: Path, colours: int) -> None:
    shape = (8, 9, 3) if colours == 3 else (8, 9)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def test_a_numbered_file_that_holds_all_channels_is_a_scan(tmp_path: Path) -> None:
    for name in ("a_0000.png", "b_0000.png"):
        save_picture(tmp_path / name, 3)
    scans = list_scans([tmp_path], 3)
    assert [case.case_id for case in scans.cases] == ["a", "b"]
    assert [case.channels[0].component for case in scans.cases] == [None, None]


def test_numbered_colours_are_no_channels(tmp_path: Path) -> None:
    for index in range(4):
        save_picture(tmp_path / f"patient_{index:04d}.png", 3)
    scans = list_scans([tmp_path], 3)
    assert [case.case_id for case in scans.cases] == [f"patient_{i:04d}" for i in range(4)]
    assert scans.notes[0].startswith("patient_0000 and 3 more: each holds all channels")


@pytest.mark.parametrize("why", ["places", "names", "nothing"])
def test_numbered_files_of_one_channel_are_scans_where_something_says_so(
    tmp_path: Path, why: str
) -> None:
    for index in range(3):
        affine = np.diag([1.0, 1, 1 + (why == "places") * index, 1])
        nib.save(nib.Nifti1Image(np.zeros((3, 4, 5)), affine), tmp_path / f"a_{index:04d}.nii")
    trained_on = ("patient_0003",) if why == "names" else ("patient",)
    if why == "nothing":
        with pytest.raises(AutosegError, match="a: has channels 0000, 0001, 0002"):
            list_scans([tmp_path], 1, trained_on)
        return
    scans = list_scans([tmp_path], 1, trained_on)
    assert [case.case_id for case in scans.cases] == ["a_0000", "a_0001", "a_0002"]


def test_channels_that_no_model_asked_for_are_named(tmp_path: Path) -> None:
    for name in ("a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png"):
        save_picture(tmp_path / name, 1)
    with pytest.raises(AutosegError, match=r"a: has channels 0000, 0001.*rename them"):
        list_scans([tmp_path], 1)


def test_the_folder_that_holds_scans_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTs", "a_0000.nii.gz", "b_0000.nii.gz")
    with pytest.raises(AutosegError, match=r"Give the folder that holds.*imagesTs \(2 images\)"):
        list_scans([tmp_path], 1)


def test_names_that_differ_in_their_form_of_unicode_alone_are_one(tmp_path: Path) -> None:
    folders = [touch(tmp_path / str(len(name)), f"{name}.nii.gz") for name in ("é", "e\u0301")]
    with pytest.raises(AutosegError, match="same mask as another scan"):
        list_scans(folders, 1)
