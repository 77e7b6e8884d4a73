"""Covers: layouts.naming, layouts.nnunet_raw, layouts.plain, layouts.recognition, reading."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.layouts.naming import group_channels
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError


def make_layout(folder: Path, description: dict[str, Any], files: list[str]) -> Path:
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    folder.mkdir()
    (folder / "dataset.json").write_text(
        json.dumps(content | {"file_ending": ".nii.gz"} | description)
    )
    for name in files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return folder


def test_an_nnunet_folder_is_read_with_channels_in_order(tmp_path: Path) -> None:
    folder = make_layout(
        tmp_path / "data",
        {"channel_names": {"1": "PET", "0": "CT"}},
        ["imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/b.nii.gz"],
    )
    dataset = open_dataset(folder)
    assert dataset.channel_names == ("CT", "PET")
    assert [p.name for p in dataset.cases[0].files()] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_all_missing_files_are_listed_at_once(tmp_path: Path) -> None:
    folder = make_layout(
        tmp_path / "data",
        {"channel_names": {"0": "CT", "1": "PET"}},
        ["imagesTr/a_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/a.nii.gz"],
    )
    with pytest.raises(AutosegError) as error:
        open_dataset(folder)
    message = str(error.value)
    assert "a_0001.nii.gz: channel 1 (PET) is missing" in message
    assert "b_0000.nii.gz: channel 0 (CT) is missing" in message
    assert "labelsTr/b.nii.gz: its label file does not exist" in message


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"labels": {"background": 0, "tumour": [1, 2]}}, "regions_class_order must list 1"),
        ({"labels": {"liver": 1, "tumour": 2}}, "background of value 0"),
        ({"labels": {"background": 0, "a": 1.5}}, "label 'a' has value 1.5"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "same value"),
        ({"labels": {"background": 0, "a": 2, "ignore": 1}}, "higher than all others"),
        ({"channel_names": {"1": "CT"}}, "channel_names has keys 1"),
        ({"file_ending": ".xyz"}, "file_ending is '.xyz'"),
    ],
)
def test_a_dataset_json_that_cannot_be_used_says_why(
    tmp_path: Path, description: dict[str, Any], message: str
) -> None:
    folder = make_layout(tmp_path / "data", description, ["imagesTr/a_0000.nii.gz"])
    with pytest.raises(AutosegError, match=message):
        open_dataset(folder)


def test_other_layouts_are_refused_with_those_supported(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(AutosegError, match=r"(?s)no supported dataset layout.*nnU-Net raw.*plain"):
        open_dataset(tmp_path)


def test_empty_and_absent_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="empty"):
        open_dataset(tmp_path)
    with pytest.raises(AutosegError, match="no such dataset"):
        open_dataset(tmp_path / "none")


def test_channel_suffixes_group_files(tmp_path: Path) -> None:
    names = ["a_0000.nii.gz", "a_0001.nii.gz", "b.nii.gz", ".hidden_0000.nii.gz"]
    groups, others = group_channels([tmp_path / n for n in names])
    assert {case: sorted(channels) for case, channels in groups.items()} == {"a": [0, 1]}
    assert others == [tmp_path / "b.nii.gz"]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)


def test_decathlon_files_are_split_into_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, 9, 10, 2)).astype(np.float32)
    label = rng.integers(0, 3, (8, 9, 10)).astype(np.uint8)
    save(tmp_path / "imagesTr" / "brain_1.nii.gz", image)
    save(tmp_path / "labelsTr" / "brain_1.nii.gz", label)
    (tmp_path / "imagesTr" / "._brain_1.nii.gz").write_bytes(b"a Mac was here")
    files = {"image": "./imagesTr/brain_1.nii.gz", "label": "./labelsTr/brain_1.nii.gz"}
    hidden = {"image": "./imagesTr/._brain_1.nii.gz", "label": "./labelsTr/._brain_1.nii.gz"}
    description = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "training": [hidden, files],
        "test": [],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "msd"
    assert dataset.channel_names == ("FLAIR", "T1w")
    assert dataset.labels is not None
    assert dataset.labels.names == ("background", "edema", "tumour")
    found, found_label = read_case(dataset.cases[0])
    np.testing.assert_array_equal(found.array, np.moveaxis(image.T, 0, 0))
    np.testing.assert_array_equal(found_label.array, label.T)


def test_plain_names_that_do_not_match_are_listed(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    save(tmp_path / "labels" / "b.nii.gz", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(
        AutosegError, match=r"(?s)a\.nii\.gz: there is no label.*b\.nii\.gz: there is no image"
    ):
        open_dataset(tmp_path)


def test_plain_scans_may_be_numbered_with_four_digits_from_0(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / "images" / f"scan_{index:04d}.nii.gz", np.ones((4, 4, 4), np.float32))
        save(tmp_path / "labels" / f"scan_{index:04d}.nii.gz", np.ones((4, 4, 4), np.uint8))
    assert [case.case_id for case in open_dataset(tmp_path).cases] == [
        "scan_0000", "scan_0001", "scan_0002",
    ]  # fmt: skip


def test_plain_scans_with_other_channels_are_named(tmp_path: Path) -> None:
    for name in ("a_0000", "b_0000", "b_0001"):
        save(tmp_path / "images" / f"{name}.nii.gz", np.ones((4, 4, 4), np.float32))
    for name in ("a", "b"):
        save(tmp_path / "labels" / f"{name}.nii.gz", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(
        AutosegError, match="b: has the channel files _0000, _0001, but a has _0000"
    ):
        open_dataset(tmp_path)
