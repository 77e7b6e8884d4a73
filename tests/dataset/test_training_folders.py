"""What is predicted is read as what was trained on: by the same reader, under the same names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.inputs import list_scans
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.reading import read_channels
from tests.dataset.folders import PICTURES, decathlon, instances, nnunet, plain, table

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".mgz", ".NII.GZ", ".MHA")

FOLDERS: dict[str, Callable[[Path], Path]] = {
    **{f"nnU-Net {e}": lambda f, e=e: nnunet(f, e) for e in (*VOLUMES, ".png", ".tif")},  # type: ignore[misc]
    **{f"plain {e}": lambda f, e=e: plain(f, e) for e in (*VOLUMES, *PICTURES)},  # type: ignore[misc]
    "nnU-Net, two channels": lambda f: nnunet(f, ".nii.gz", channels=2),
    "nnU-Net, colours in one file": lambda f: nnunet(f, ".png", colours=3),
    "nnU-Net, another ending": lambda f: nnunet(f, ".nii", declared=".nii.gz"),
    "nnU-Net, another case of letters": lambda f: nnunet(f, ".NII.GZ", declared=".nii.gz"),
    "plain, colours": lambda f: plain(f, ".png", colours=3),
    "plain, two channels": lambda f: plain(f, ".nii.gz", suffixes=("_0000", "_0001")),
    "plain, one channel with its number": lambda f: plain(f, ".nii.gz", suffixes=("_0000",)),
    "plain, numbered scans": lambda f: plain(f, ".nii.gz", ("p_0000", "p_0001", "p_0002")),
    "plain, numbered colours": lambda f: plain(f, ".png", ("p_0000", "p_0001"), colours=3),
    "instances": lambda f: instances(f, ".png"),
    "Decathlon": lambda f: decathlon(f, 1),
    "Decathlon, two channels": lambda f: decathlon(f, 2),
    "table": table,
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_was_trained_on_is_predicted_under_the_same_names(
    tmp_path: Path, name: str
) -> None:
    images = FOLDERS[name](tmp_path)
    dataset = open_dataset(tmp_path)
    names = [case.case_id for case in dataset.cases]
    scans = list_scans([images], len(dataset.channel_names), names)
    assert scans.problems == []
    assert [case.case_id for case in scans.cases] == [case.case_id for case in dataset.cases]
    for trained, predicted in zip(dataset.cases, scans.cases, strict=True):
        expected, found = read_channels(trained), read_channels(predicted)
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_array_equal(found.grid.affine_ras_mm, expected.grid.affine_ras_mm)
