"""A folder as an archive gives it, told apart by what files hold.

Covers: survey, series.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from autoseg.errors import AutosegError
from autoseg.images.dicom.folders import holds_dicom
from autoseg.images.dicom.survey import not_dicom, scans_of_files, survey_dicom
from tests.dicom_series import (
    CT,
    NAME,
    PATIENT_ID,
    Series,
    dataset,
    scan,
    write_capture,
    write_report,
    write_series,
)


def write_archive(folder: Path) -> Path:
    """Two patients in one flat folder, with all that lies between their series."""
    write_series(folder, Series(scan(), uid="1.2.3.4", study="1.2.3"))
    write_series(folder, Series(scan(seed=1), uid="1.2.3.5", study="1.2.3"))
    write_series(folder, Series(scan(seed=2), uid="1.2.4.4", study="1.2.4", patient="other"))
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(folder, Series(scan((1, 8, 8)), uid="1.2.3.6", changes=scout))
    for uid, rows in (("1.2.3.7.1", (1.0, 0.0, 0.0)), ("1.2.3.7.2", (0.0, 0.0, 1.0))):
        planes = {"SeriesInstanceUID": "1.2.3.7"}
        write_series(folder, Series(scan((2, 8, 8)), rows=rows, uid=uid, changes=planes))
    write_report(folder, "1.2.3")
    write_capture(folder, "1.2.3")
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "broken").write_bytes(bytes(128) + b"DICM" + b"nothing")
    return folder


def test_series_of_a_flat_folder_are_told_apart(tmp_path: Path) -> None:
    survey = survey_dicom([write_archive(tmp_path)])
    assert len(survey.volumes) == 3
    assert len({volume.patient for volume in survey.volumes}) == 2
    left_out = [*survey.left_out, *not_dicom(survey.others)]
    reasons = sorted(one.why for one in left_out)
    assert [reason.split(":")[0].split(" (")[0] for reason in reasons] == [
        "a localiser",
        "a localiser",
        "a secondary capture",
        "cannot be read as DICOM",
        "holds no image",
        "not DICOM",
    ]


def test_a_file_that_does_not_state_its_encoding_is_told(tmp_path: Path) -> None:
    write_series(tmp_path, Series(scan()))
    path = sorted(tmp_path.rglob("*"))[-1]
    found = dcmread(path)
    found.preamble, syntax = bytes(128), found.file_meta.TransferSyntaxUID
    del found.file_meta.TransferSyntaxUID
    implicit = {"implicit_vr": syntax.is_implicit_VR, "little_endian": True}
    found.save_as(path, enforce_file_format=False, **implicit)
    (one,) = survey_dicom([tmp_path]).left_out
    assert one.why == "does not state how it is encoded (TransferSyntaxUID): export it again"


def test_names_tell_nothing_of_a_person_and_stay(tmp_path: Path) -> None:
    first = survey_dicom([write_archive(tmp_path / NAME)])
    second = survey_dicom([write_archive(tmp_path / "elsewhere")])
    names = [(v.name, v.patient) for v in first.volumes]
    assert names == [(v.name, v.patient) for v in second.volumes]
    told = str([*names, *first.left_out])
    assert "Planted" not in told and PATIENT_ID not in told


def test_a_series_in_two_folders_is_taken_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, Series(scan()))
    survey = survey_dicom([tmp_path])
    assert len(survey.volumes) == 1
    assert survey.left_out[0].why == "its series lies in another folder too"


@pytest.mark.parametrize("in_second", [{3, 4, 5}, {1, 3, 5}, {5}])
def test_parts_of_a_series_never_pass_for_the_whole(tmp_path: Path, in_second: set[int]) -> None:
    write_series(tmp_path / "a", Series(scan()), leave_out=sorted(in_second))
    write_series(tmp_path / "b", Series(scan()), leave_out=sorted(set(range(6)) - in_second))
    survey = survey_dicom([tmp_path])
    assert not survey.volumes
    assert sum(left.files for left in survey.left_out) == 6
    assert all("several folders" in left.why for left in survey.left_out)


def test_a_whole_series_is_read_beside_a_copy_of_some_of_it(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Series(scan()), leave_out=[0, 4])
    write_series(tmp_path / "b", Series(scan()))
    survey = survey_dicom([tmp_path])
    assert [len(volume.stack.slices) for volume in survey.volumes] == [6]
    assert [left.files for left in survey.left_out] == [4]


def test_slices_of_no_series_are_scans_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made = Series(scan((1, 8, 10)), changes={"SOPInstanceUID": f"1.2.{name == 'a':d}"})
        [file] = write_series(tmp_path / name, made)
        slice_ = dcmread(file)
        del slice_.SeriesInstanceUID
        slice_.save_as(file)
    assert len(survey_dicom([tmp_path]).volumes) == 2


def test_single_files_stand_for_their_volume_once(tmp_path: Path) -> None:
    files = write_series(tmp_path, Series(scan()))
    [volume] = scans_of_files(files[:3])
    assert volume.name == survey_dicom([tmp_path]).volumes[0].name
    report = write_report(tmp_path, "1.2.3")
    with pytest.raises(AutosegError, match="holds no image"):
        scans_of_files([report])


def test_folders_without_dicom_hold_none(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"text")
    assert not holds_dicom(tmp_path)
    assert dataset(Series(scan())).SOPClassUID == CT
    write_series(tmp_path / "deep" / "er", Series(scan((1, 2, 2))))
    assert holds_dicom(tmp_path)


def test_pictures_among_the_slices_of_a_series_are_left_out_alone(tmp_path: Path) -> None:
    """Scanners put a localiser or a coloured page into the series of the scan."""

    def coloured(made: FileDataset, z: int) -> None:
        made.SamplesPerPixel, made.PhotometricInterpretation = 3, "RGB"
        made.PlanarConfiguration, made.PixelRepresentation = 0, 0
        made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
        made.PixelData = bytes(8 * 10 * 3)

    write_series(tmp_path, Series(scan()))
    same = {"SeriesInstanceUID": "1.2.3.4"}
    scout = same | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(tmp_path, Series(scan((1, 20, 8)), uid="1.2.3.5", changes=scout))
    page = Series(scan((1, 8, 10)), uid="1.2.3.6", changes=same)
    write_series(tmp_path, page, per_slice=coloured)
    survey = survey_dicom([tmp_path])
    assert [volume.stack.grid.shape_vox for volume in survey.volumes] == [(6, 8, 10)]
    assert [(left.files, left.why) for left in survey.left_out] == [
        (1, "a localiser"),
        (1, "holds colours"),
    ]


def test_one_uid_on_two_patients_makes_no_one_scan(tmp_path: Path) -> None:
    write_series(tmp_path, Series(scan(), patient="a"))
    above = Series(scan(), uid="1.2.3.5", patient="b", origin_mm=(-31.5, 12.25, 115.0))
    write_series(tmp_path, replace(above, changes={"SeriesInstanceUID": "1.2.3.4"}))
    volumes = survey_dicom([tmp_path]).volumes
    assert [volume.stack.grid.shape_vox for volume in volumes] == [(6, 8, 10)] * 2


@pytest.mark.parametrize("spacing_mm", [None, [0, 0]])
def test_slices_without_a_size_of_pixels_are_left_out(
    tmp_path: Path, spacing_mm: list[int] | None
) -> None:
    write_series(tmp_path, Series(scan(), changes={"PixelSpacing": spacing_mm}))
    [left] = survey_dicom([tmp_path]).left_out
    assert left.why == "states no size of its pixels"


def test_visible_light_is_no_secondary_capture(tmp_path: Path) -> None:
    endoscopy = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}
    write_series(tmp_path, Series(scan((1, 8, 10)), changes=endoscopy))
    assert len(survey_dicom([tmp_path]).volumes) == 1
