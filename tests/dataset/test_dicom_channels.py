"""Several series of a study as channels, by patterns of their descriptions.

Covers: dicom_channels, regridding.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg.dataset.dicom_channels import patterns_of
from autoseg.dataset.inputs import Scans, list_scans
from autoseg.dataset.reading import read_channels
from autoseg.errors import AutosegError
from autoseg.inspection.case import inspect_case
from tests.dicom_series import Series, scan, write_series

PATTERNS = ("*mprage*", "*FLAIR*")


def write_described(folder: Path, uid: str, description: str, **changes: Any) -> Series:
    values = changes.pop("values", None)
    seed = int(uid.rsplit(".", 1)[-1])
    voxels = scan(seed=seed) if values is None else np.asarray(values)
    told = {"SeriesDescription": description} | {k: v for k, v in changes.items() if k[0].isupper()}
    series = Series(voxels, uid=uid, changes=told)
    series = replace(series, **{k: v for k, v in changes.items() if not k[0].isupper()})
    write_series(folder, series)
    return series


def listed(folder: Path) -> Scans:
    return list_scans([folder], 2, series=PATTERNS)


def test_series_that_are_described_so_are_channels_in_the_models_order(tmp_path: Path) -> None:
    second = write_described(tmp_path, "1.2.3.5", "ax t2 Flair fs")
    first = write_described(tmp_path, "1.2.3.4", "T1 MPRAGE sag")
    write_described(tmp_path, "1.2.3.6", "DWI")
    scans = listed(tmp_path)
    [case] = scans.cases
    image = read_channels(case)
    for channel, series in zip(image.array, (first, second), strict=True):
        np.testing.assert_array_equal(channel, series.voxels.astype(np.float32) - 1024)
    assert image.sources[0] is not None and image.sources[0].sop_uid.startswith("1.2.3.4.")
    assert [(one.number, one.uid) for one in scans.left_out] == [("1", "1.2.3.6")]
    assert "no channel of the model" in scans.left_out[0].why


def test_series_of_another_modality_than_the_models_are_left_out_unless_asked_for(
    tmp_path: Path,
) -> None:
    write_described(tmp_path, "1.2.3.4", "head", Modality="MR")
    write_described(tmp_path, "1.2.3.5", "chest", Modality="CT")
    scans = list_scans([tmp_path], 1, channel_names=("MRI",))
    assert [case.case_id[:2] for case in scans.cases] == ["mr"]
    [other] = scans.left_out
    assert "modality CT, and the model's channel is MRI: --series MRI='*'" in other.why
    assert len(list_scans([tmp_path], 1, series=("*",), channel_names=("MRI",)).cases) == 2
    assert len(list_scans([tmp_path], 1, channel_names=("image",)).cases) == 2


def test_a_channel_of_another_grid_is_resampled_to_the_first(tmp_path: Path) -> None:
    z, y, x = np.indices((8, 10, 12))
    ramp = (100 * z + 10 * y + x).astype(np.int16)
    common = {"spacing_mm": (2.0, 2.0, 2.0), "origin_mm": (0.0, 0.0, 0.0)}
    write_described(tmp_path, "1.2.3.4", "mprage", values=ramp, **common)
    fine = {"spacing_mm": (2.0, 1.0, 1.0), "origin_mm": (0.0, 0.0, 0.0)}
    z, y, x = np.indices((8, 20, 24))
    finer = (100 * z + 5 * y + x).astype(np.int16)  # of the same place, another slope along x
    write_described(tmp_path, "1.2.3.5", "flair", values=finer, **fine)
    [case] = listed(tmp_path).cases
    image = read_channels(case)
    z, y, x = np.indices((8, 10, 12))
    np.testing.assert_allclose(image.array[1], 100 * z + 10 * y + 2 * x - 1024, atol=1e-3)
    assert "resampled linearly to the first one's grid; it covers 100%" in image.oddities[0].what
    assert [p.kind for p in inspect_case(case, None).problems] == ["resampled_channel"]


def test_a_channel_that_shows_another_place_is_refused(tmp_path: Path) -> None:
    write_described(tmp_path, "1.2.3.4", "mprage")
    write_described(tmp_path, "1.2.3.5", "flair", origin_mm=(-31.5, 12.25, 110.0))
    [case] = listed(tmp_path).cases
    with pytest.raises(AutosegError, match="lies on another grid"):
        read_channels(case)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "no series of its study is described as \\*FLAIR\\* \\(there are 'mprage'\\)"),
        (["flair", "flair 2"], "2 series of its study are described as \\*FLAIR\\*"),
    ],
)
def test_what_a_study_lacks_is_told(tmp_path: Path, more: list[str], told: str) -> None:
    write_described(tmp_path, "1.2.3.4", "mprage")
    for number, description in enumerate(more, 5):
        write_described(tmp_path, f"1.2.3.{number}", description)
    with pytest.raises(AutosegError, match=told):
        listed(tmp_path)


def test_series_of_other_frames_of_reference_are_refused(tmp_path: Path) -> None:
    write_described(tmp_path, "1.2.3.4", "mprage")
    write_described(tmp_path, "1.2.3.5", "flair", FrameOfReferenceUID="1.2.9")
    with pytest.raises(AutosegError, match=r"not registered\. Register them"):
        listed(tmp_path)


def test_without_patterns_they_are_asked_for_with_the_descriptions(tmp_path: Path) -> None:
    write_described(tmp_path, "1.2.3.4", "mprage")
    with pytest.raises(AutosegError, match=r"--series CHANNEL='.*descriptions here are 'mprage'"):
        list_scans([tmp_path], 2)


def test_a_pattern_chooses_series_for_a_model_of_one_channel(tmp_path: Path) -> None:
    for number, description in ((4, "mprage"), (5, "mprage 2"), (6, "scout")):
        write_described(tmp_path, f"1.2.3.{number}", description)
    scans = list_scans([tmp_path], 1, series=("mprage*",))
    assert (len(scans.cases), len(scans.left_out)) == (2, 1)


def test_each_channel_needs_a_pattern() -> None:
    assert patterns_of({"FLAIR": "b", "T1": "a"}, ("T1", "FLAIR")) == ("a", "b")
    with pytest.raises(AutosegError, match="given for T1, but the channels are T1, FLAIR"):
        patterns_of({"T1": "a"}, ("T1", "FLAIR"))


def test_grids_are_shared_only_where_that_is_known(tmp_path: Path) -> None:
    write_described(tmp_path, "1.2.3.4", "mprage")
    write_described(tmp_path, "1.2.3.5", "flair", spacing_mm=(2.5, 0.8, 0.75))
    [case] = listed(tmp_path).cases
    with pytest.raises(AutosegError, match="lies on another grid"):
        read_channels(replace(case, in_one_space=False))
