"""Masks written as SEG and RTSTRUCT come back equal, for autoseg and for others.

Covers: codes, contours, derived, references, segments,
write_contours, write_seg.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.codedict import codes as dictionary
from scipy.ndimage import gaussian_filter
from skimage.draw import polygon2mask

from autoseg.errors import AutosegError
from autoseg.images.dicom.codes import codes_of, known_codes, read_codes
from autoseg.images.dicom.contours import outlines
from autoseg.images.dicom.derived import Findings, decimal, segments_of
from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.dicom.write_contours import write_rtstruct
from autoseg.images.dicom.write_seg import SegKind, write_seg
from autoseg.images.volume import read_labels
from tests.dicom_series import (
    BIRTH_DATE,
    NAME,
    ORIENTATIONS,
    Series,
    Triple,
    scan,
    write_enhanced,
    write_series,
)

NAMES = ("liver", "Left Kidney", "thing")
VALUES = (1, 2, 5)
KINDS: tuple[SegKind, ...] = ("binary", "labelmap", "fractional")


def findings_of(folder: Path, seed: int = 0) -> Findings:
    """A mask of a folder's one volume, of compact pieces with holes."""
    [volume] = survey_dicom([folder]).volumes
    shape = volume.stack.grid.shape_vox
    smooth = gaussian_filter(np.random.default_rng(seed).random((4, *shape)), (0, 0.5, 1, 1))
    labels = np.array([0, *VALUES], np.uint8)[smooth.argmax(axis=0)]
    labels[[one is None for one in volume.stack.slices]] = 0
    segments = segments_of(VALUES, NAMES, [codes_of(name) for name in NAMES])
    fractions = np.stack([(labels == value) * 0.75 for value in VALUES])
    return Findings(volume.stack, labels, segments, ("scan", "model"), fractions)


def write_all(folder: Path, found: Findings) -> list[Path]:
    for kind in KINDS:
        write_seg(folder / f"{kind}.dcm", found, kind)
    write_rtstruct(folder / "contours.dcm", found)
    return sorted(folder.iterdir())


def numbers(found: Findings) -> NDArray[Any]:
    """Segment numbers in the place of label values."""
    table = np.zeros(256, np.uint8)
    table[list(VALUES)] = [1, 2, 3]
    numbered: NDArray[np.uint8] = table[found.labels]
    return numbered


ALL = list(product(ORIENTATIONS, (0.0, 0.9), ("classic", "enhanced", "missing")))


@pytest.mark.parametrize(
    ("directions", "shear_mm", "form"),
    [pytest.param(*one, marks=[pytest.mark.slow] if i % 29 else []) for i, one in enumerate(ALL)],
)
def test_masks_come_back_on_the_series(
    tmp_path: Path, directions: tuple[Triple, Triple], shear_mm: float, form: str
) -> None:
    series = Series(scan((5, 6, 7)), *directions, shear_mm=shear_mm)
    if form == "enhanced":
        write_enhanced(tmp_path / "scan", series)
    else:
        write_series(tmp_path / "scan", series, leave_out=[2] if form == "missing" else [])
    found = findings_of(tmp_path)
    for path in write_all(tmp_path / "masks", found):
        back = read_labels(path)
        np.testing.assert_allclose(back.grid.affine_ras_mm, series.affine_ras_mm(), atol=1e-6)
        np.testing.assert_array_equal(back.array, numbers(found), err_msg=path.name)


def test_a_scan_that_lost_its_study_gets_one_for_all_that_is_made_of_it(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", Series(scan((3, 6, 7)), changes={"StudyInstanceUID": ""}))
    made = [dcmread(path) for path in write_all(tmp_path / "masks", findings_of(tmp_path))]
    [study] = {one.StudyInstanceUID for one in made}
    assert study.startswith("2.25.")


def test_values_of_a_person_that_are_not_valid_are_written_and_not_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    for file in (tmp_path / "scan").iterdir():
        made = dcmread(file)
        made.PatientBirthDate, made.PatientAge = "01/02/1903", "old"
        made.save_as(file)
    recwarn.clear()
    caplog.clear()
    for path in write_all(tmp_path / "masks", findings_of(tmp_path)):
        assert dcmread(path).PatientBirthDate == "01/02/1903"
    assert "1903" not in caplog.text + str([str(one.message) for one in recwarn])


def test_a_contour_of_any_length_has_decimal_strings(tmp_path: Path) -> None:
    """Explicit VRs hold 64 KiB of them at most (PS3.5 6.2.2)."""
    write_series(tmp_path / "scan", Series(scan((3, 99, 99))))
    found = findings_of(tmp_path)
    labels = np.zeros_like(found.labels)
    labels[1], labels[1, 1::4, 1::4] = 1, 0
    write_rtstruct(tmp_path / "masks" / "contours.dcm", replace(found, labels=labels))
    made = dcmread(tmp_path / "masks" / "contours.dcm")
    [contour] = made.ROIContourSequence[0].ContourSequence
    assert len(contour.get_item("ContourData").value) > 2**16
    assert made.file_meta.TransferSyntaxUID.is_implicit_VR
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "contours.dcm").array, labels)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_highdicom_reads_the_same(tmp_path: Path, kind: SegKind) -> None:
    series = Series(scan(), *ORIENTATIONS[7])
    write_series(tmp_path / "scan", series)
    found = findings_of(tmp_path)
    write_seg(tmp_path / "seg.dcm", found, kind)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [one.instance.sop_uid for one in found.stack.present]
    planes = read.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(planes, numbers(found))
    volume = read.get_volume(combine_segments=True)
    back = volume.affine @ np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    spacing = np.linalg.norm(back[:3, :3], axis=0)
    np.testing.assert_allclose(spacing[::-1], series.spacing_mm, atol=1e-6)
    assert {d.SegmentLabel for d in read.SegmentSequence} == set(NAMES)


def test_highdicom_reads_fractions_of_enhanced_frames(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    write_seg(tmp_path / "seg.dcm", found, "fractional")
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = [one.frame.number for one in found.stack.present]
    uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
    planes = read.get_pixels_by_source_frame(uid, frames)  # [frame, y, x, segment]
    assert found.fractions is not None
    fractions = np.stack(list(found.fractions))
    np.testing.assert_allclose(np.moveaxis(planes, -1, 0), fractions, atol=1 / 255)


def test_a_segmentation_that_highdicom_wrote_is_read(tmp_path: Path) -> None:
    files = write_series(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    sources = sorted((dcmread(file) for file in files), key=lambda d: float(d.InstanceNumber))
    described = [
        highdicom.seg.SegmentDescription(
            number, name, dictionary.SCT.Organ, dictionary.SCT.Liver, "MANUAL"
        )
        for number, name in enumerate(NAMES, 1)
    ]
    made = highdicom.seg.Segmentation(
        sources, numbers(found), "BINARY", described, "1.2.9", 1, "1.2.9.1", 1, "a", "b", "c", "d"
    )
    made.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm").array, numbers(found))


def test_a_rerun_writes_the_same_bytes_and_another_model_another_object(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    first = [path.read_bytes() for path in write_all(tmp_path / "one", found)]
    assert first == [path.read_bytes() for path in write_all(tmp_path / "two", found)]
    other = replace(found, made_of=("scan", "another model"))
    uids = [dcmread(p).SOPInstanceUID for p in write_all(tmp_path / "three", other)]
    assert not set(uids) & {dcmread(p).SOPInstanceUID for p in (tmp_path / "one").iterdir()}
    assert all(uid.startswith("2.25.") and uid.is_valid for uid in uids)


def test_patient_study_and_references_are_those_of_the_source(tmp_path: Path) -> None:
    series = Series(scan())
    write_series(tmp_path / "scan", series)
    for path in write_all(tmp_path / "masks", findings_of(tmp_path)):
        made = dcmread(path)
        assert (made.PatientName, made.PatientBirthDate) == (NAME, BIRTH_DATE)
        assert made.StudyInstanceUID == series.study
        assert made.FrameOfReferenceUID == f"{series.study}.1"
        assert made.SeriesInstanceUID != series.uid
        text = str(made)
        assert all(f"{series.uid}.{z + 1}" in text for z in range(6))
        assert "(123110, DCM" in text or "'123110'" in text


def test_a_mask_of_nothing_is_written_and_comes_back(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    empty = np.zeros_like(found.labels)
    none = replace(found, labels=empty, fractions=np.zeros((3, *empty.shape)))
    for path in write_all(tmp_path / "masks", none):
        assert not read_labels(path).array.any()


def test_segments_of_other_numbers_follow_the_declared_names(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "thing": 1}}')
    for path in write_all(tmp_path / "masks", found):
        back = read_labels(path)
        np.testing.assert_array_equal(back.array, found.labels == 5)
        assert "liver" in back.oddities[0].what


def test_a_segmentation_without_its_series_has_its_own_grid(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    found = findings_of(tmp_path)
    for path in write_all(tmp_path / "apart" / "masks", found):
        for file in (tmp_path / "scan").glob("*"):
            file.unlink()
        if path.name == "contours.dcm":
            with pytest.raises(AutosegError, match="is not beside it"):
                read_labels(path)
        else:
            np.testing.assert_array_equal(read_labels(path).array, numbers(found))


@pytest.mark.parametrize("sigma", [0, 0.7, 2])
def test_outlines_hold_the_same_voxels_for_scikit_image(sigma: float) -> None:
    noise = np.random.default_rng(0).random((40, 50))
    plane = gaussian_filter(noise, sigma) > 0.5
    labels = np.where(plane, 1 + (np.arange(50) > 22), 0)  # two classes, which touch
    held = np.zeros_like(labels)
    for value, polygon in outlines(labels):
        held ^= value * polygon2mask(plane.shape, polygon[:, ::-1])
    np.testing.assert_array_equal(held, labels)


def test_codes_follow_names_and_sides() -> None:
    kidney = codes_of("kidney_left")
    assert kidney.type[:2] == ("64033007", "SCT")
    assert kidney.modifier is not None and kidney.modifier.meaning == "Left"
    assert codes_of("LungR").modifier == ("24028007", "SCT", "Right")
    assert (
        codes_of("tumour").category.value == dictionary.SCT.MorphologicallyAbnormalStructure.value
    )
    assert codes_of("nobody knows").type.meaning == "Tissue"


def test_own_codes_come_first(tmp_path: Path) -> None:
    table = tmp_path / "codes.toml"
    table.write_text(
        '[[structure]]\nnames = ["liver"]\ncategory = ["1", "99X", "a"]\ntype = ["2", "99X", "b"]\n'
    )
    assert codes_of("Liver", read_codes(table)).type == ("2", "99X", "b")
    table.write_text('[[structure]]\nname = "liver"\n')
    with pytest.raises(AutosegError, match="names"):
        read_codes(table)


def test_every_code_of_the_table_is_in_pydicoms_dictionary() -> None:
    from pydicom.sr._concepts_dict import concepts

    snomed: Any = concepts["SCT"]
    known = {code for found in snomed.values() for code in found}
    for structure in known_codes().structure:
        assert structure.type.value in known, structure.names
        assert structure.category.value in known


@pytest.mark.parametrize("value", [-1 / 3, 1e-9 / 3, 123456.789012345, -0.00012345678901])
def test_decimal_strings_fit_and_are_close(value: float) -> None:
    assert len(decimal(value)) <= 16
    assert float(decimal(value)) == pytest.approx(value, rel=1e-7)


def test_a_folder_that_goes_away_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may write masks beside, by temporary names."""
    write_series(tmp_path / "z" / "series", Series(scan()))
    found = findings_of(tmp_path / "z")
    write_seg(tmp_path / "z" / "masks" / "a.dcm", found)
    (tmp_path / "z" / "fleeting").mkdir()
    listing = Path.iterdir

    def vanishing(folder: Path) -> Any:
        if folder.name == "fleeting":
            raise FileNotFoundError(folder)
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", vanishing)
    read = read_labels(tmp_path / "z" / "masks" / "a.dcm")
    np.testing.assert_array_equal(read.array, numbers(found))
