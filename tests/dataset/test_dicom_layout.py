"""DICOM folders as data sets, and as scans to segment.

Covers: layouts.dicom.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.inputs import list_scans
from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError
from autoseg.images.dicom.codes import codes_of
from autoseg.images.dicom.derived import Findings, segments_of
from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.dicom.write_contours import write_rtstruct
from autoseg.images.dicom.write_seg import write_seg
from autoseg.pipeline.check import check_dataset
from tests.dicom_series import NAME, Series, scan, write_report, write_series


def write_labelled(root: Path, names: tuple[str, str], number: int) -> None:
    """A series with a SEG or an RTSTRUCT of two classes beside it."""
    folder = root / f"study{number}"
    series = Series(scan(seed=number), uid=f"1.2.{number}.4", study=f"1.2.{number}")
    write_series(folder / "series", series)
    [volume] = survey_dicom([folder]).volumes
    labels = np.zeros(series.voxels.shape, np.uint8)
    labels[1:4, 2:5, 2:6], labels[2:4, 5:7, 3:5] = 1, 2
    segments = segments_of((1, 2), names, [codes_of(name) for name in names])
    found = Findings(volume.stack, labels, segments, ("a", str(number)))
    if number % 2:
        write_seg(folder / "seg" / "a", found)
    else:
        write_rtstruct(folder / "contours" / "a", found)


def test_series_with_segments_or_contours_are_training_cases(tmp_path: Path) -> None:
    for number in (1, 2):
        write_labelled(tmp_path, ("liver", "tumour"), number)
    write_series(tmp_path / "study1" / "more", Series(scan(seed=9), uid="1.2.1.9", study="1.2.1"))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "dicom" and dataset.channel_names == ("CT",)
    assert dataset.labels is not None and dataset.labels.names == ("background", "liver", "tumour")
    assert (len(dataset.cases), len(dataset.test_cases)) == (2, 1)
    for case in dataset.cases:
        image, label = read_case(case)
        assert label.grid.shape_vox == image.grid.shape_vox
        assert np.bincount(label.array.ravel())[1:].tolist() == [36, 8]


def test_names_that_are_numbered_differently_ask_for_a_description(tmp_path: Path) -> None:
    write_labelled(tmp_path, ("liver", "tumour"), 1)
    write_labelled(tmp_path, ("tumour", "liver"), 2)
    with pytest.raises(AutosegError, match="number their names differently") as caught:
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(str(caught.value).splitlines()[-1])
    counts = [
        np.bincount(read_case(case)[1].array.ravel()) for case in open_dataset(tmp_path).cases
    ]
    assert sorted(tuple(count[1:].tolist()) for count in counts) == [(8, 36), (36, 8)]


def test_what_is_left_out_is_in_the_report(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Series(scan()))
    write_report(tmp_path, "1.2.3")
    (tmp_path / "viewer.exe").write_bytes(b"MZ")
    report, _ = check_dataset(tmp_path, None, workers=1)
    told = {problem.kind: problem.what for problem in report.problems if problem.case_id}
    assert report.cases == 1
    assert "series 1, 6 slices of 10x8, 2.5 mm apart. Its series is 1.2.3.4." in told["taken"]
    assert "holds no image (SR)" in told["left_out"]
    assert "not DICOM (by their endings: .exe)" in report.problems[-1].what
    with pytest.raises(AutosegError, match="no labels to learn from"):
        open_dataset(tmp_path)


def test_a_second_label_of_a_series_is_told(tmp_path: Path) -> None:
    write_labelled(tmp_path, ("liver", "tumour"), 1)
    [volume] = survey_dicom([tmp_path]).volumes
    empty = np.zeros(volume.stack.grid.shape_vox, np.uint8)
    segments = segments_of((1,), ("liver",), [codes_of("liver")])
    write_rtstruct(tmp_path / "second" / "b", Findings(volume.stack, empty, segments, ("b",)))
    _, problems = survey_dataset(tmp_path)
    assert any("second SEG or RTSTRUCT" in problem.what for problem in problems)


def test_scans_are_listed_with_what_is_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / NAME, Series(scan()))
    write_report(tmp_path / NAME, "1.2.3")
    scans = list_scans([tmp_path], 1)
    assert [case.case_id[:3] for case in scans.cases] == ["ct-"]
    assert [one.why for one in scans.left_out] == ["holds no image (SR)"]
    with pytest.raises(AutosegError, match="the model needs 2 channels"):
        list_scans([tmp_path], 2)


def test_declared_series_of_a_study_are_channels_and_keep_the_firsts_labels(
    tmp_path: Path,
) -> None:
    write_labelled(tmp_path, ("liver", "tumour"), 1)
    pet = {"SeriesDescription": "PET wb", "Modality": "PT"}
    other = Series(
        scan((4, 10, 12), seed=3),
        uid="1.2.1.5",
        study="1.2.1",
        spacing_mm=(4.0, 1.0, 1.0),
        changes=pet,
    )
    write_series(tmp_path / "pet", other)
    patterns = {"CT": "", "PET": "*pet*"}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_series": patterns}))
    dataset = open_dataset(tmp_path)
    assert dataset.channel_names == ("CT", "PET")
    [case] = dataset.cases
    image, label = read_case(case)
    assert image.array.shape == (2, *label.array.shape)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_series": ["CT"]}))
    with pytest.raises(AutosegError, match="must give each channel a pattern"):
        open_dataset(tmp_path)


def test_labels_of_a_series_that_is_not_here_are_told(tmp_path: Path) -> None:
    write_labelled(tmp_path, ("liver", "tumour"), 1)
    shutil.rmtree(tmp_path / "study1" / "series")
    write_series(tmp_path / "other", Series(scan(), uid="1.2.8"))
    _, problems = survey_dataset(tmp_path)
    [told] = [problem for problem in problems if problem.kind == "unused_file"]
    assert "is a SEG of a series that is not here" in told.what
