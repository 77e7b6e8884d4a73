import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg.dataset import LabelScheme, group_channels, open_dataset
from autoseg.errors import AutosegError

SCHEME = LabelScheme(values=(0, 3, 7), names=("background", "liver", "tumour"))


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
    assert [p.name for p in dataset.cases[0].channels] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_all_missing_files_are_listed_at_once(tmp_path: Path) -> None:
    folder = make_layout(
        tmp_path / "data",
        {"channel_names": {"0": "CT", "1": "PET"}},
        ["imagesTr/a_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/a.nii.gz"],
    )
    with pytest.raises(AutosegError) as error:
        open_dataset(folder)
    message = str(error.value)
    assert "a: channel 1 (PET) is missing" in message
    assert "b: channel 0 (CT) is missing" in message
    assert "b: its label file" in message


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"labels": {"background": 0, "tumour": [1, 2]}}, "regions"),
        ({"labels": {"liver": 1, "tumour": 2}}, "background of value 0"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "'ignore' is not supported yet"),
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
    (tmp_path / "images").mkdir()
    with pytest.raises(AutosegError, match=r"no supported dataset layout.*nnU-Net raw"):
        open_dataset(tmp_path)


def test_empty_and_absent_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="empty"):
        open_dataset(tmp_path)
    with pytest.raises(AutosegError, match="no such dataset folder"):
        open_dataset(tmp_path / "none")


def test_label_values_need_not_be_consecutive() -> None:
    labels = np.array([[0, 7], [3, 7]])
    classes = SCHEME.encode(labels)
    np.testing.assert_array_equal(classes, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(SCHEME.decode(classes), labels)
    assert SCHEME.decode(classes).dtype == np.uint8


def test_undeclared_values_are_reported() -> None:
    with pytest.raises(ValueError, match="5"):
        SCHEME.encode(np.array([0, 5, 7]))


def test_channel_suffixes_group_files(tmp_path: Path) -> None:
    names = ["a_0000.nii.gz", "a_0001.nii.gz", "b.nii.gz", ".hidden_0000.nii.gz"]
    groups, others = group_channels([tmp_path / n for n in names], (".nii.gz", ".nii"))
    assert {case: sorted(channels) for case, channels in groups.items()} == {"a": [0, 1]}
    assert others == [tmp_path / "b.nii.gz"]
