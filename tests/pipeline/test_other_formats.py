"""`autoseg predict` on what an archive gives, and back as DICOM and BIDS."""

import json
import logging
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.volume import read_labels
from tests.dicom_series import BIRTH_DATE, PATIENT_ID, Series, scan, write_series
from tests.images.dicom.test_survey import write_archive
from tests.inference.model_files import small_configuration, write_model
from tests.pipeline.test_predict import predict, write_scans

PLANTED = ("Planted", BIRTH_DATE, PATIENT_ID)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    path = folder / "model.safetensors"
    return str(write_model(path, small_configuration(), channel="CT"))  # as the series here


def test_an_archive_comes_back_as_dicom_and_tells_what_it_left_out(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_archive(tmp_path / "Planted Persephone"), tmp_path / "out"
    formats = ["dicom-seg", "dicom-labelmap", "dicom-fractional", "rtstruct", "bids"]
    assert predict(folder, out, "--model", model, "--json", "--format", *formats) == 0
    entries = json.loads(capsys.readouterr().out)
    names = {entry["case_id"] for entry in entries if "case_id" in entry}
    volumes = {volume.name: volume for volume in survey_dicom([folder]).volumes}
    assert names == volumes.keys()
    assert sum("why" in entry for entry in entries) == 6  # one is of notes.txt
    for name in names:
        expected = np.asarray(nib.load(out / f"{name}.nii.gz").dataobj).T
        read = highdicom.seg.segread(out / "dicom-seg" / f"{name}.dcm")
        uids = [one.instance.sop_uid for one in volumes[name].stack.present]
        planes = read.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=False
        )
        np.testing.assert_array_equal(planes, expected)
        assert {s.SegmentAlgorithmName for s in read.SegmentSequence} == {"autoseg"}
    assert len(list((out / "bids").rglob("*_dseg.nii.gz"))) == 3
    assert not (out / "probabilities" / f"{name}.npz").exists()


def test_nothing_of_a_person_is_left_in_what_is_told_or_kept(
    tmp_path: Path,
    model: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """DICOM that is written holds the patient, as it must; nothing else does."""
    folder, out = write_archive(tmp_path / "Planted Persephone"), tmp_path / "out"
    write_series(folder, Series(scan((6, 8, 9)), uid="1.2.3.8"), leave_out=[3])
    with caplog.at_level(logging.DEBUG):
        assert predict(folder, out, "--model", model, "--json") == 0
    kept = [p.read_bytes().decode("latin1") for p in out.rglob("*") if p.is_file()]
    names = [str(path.relative_to(out)) for path in out.rglob("*")]
    told = capsys.readouterr()
    for secret in PLANTED:
        assert all(secret not in text for text in (*kept, *names, told.out, told.err, caplog.text))
    assert "misses 1 slice" in (out / "provenance.jsonl").read_text()


def test_a_rerun_makes_the_same_objects(tmp_path: Path, model: str) -> None:
    write_series(tmp_path / "scan", Series(scan()))
    written = []
    for name in ("one", "two"):
        assert (
            predict(tmp_path / "scan", tmp_path / name, "--model", model, "--format", "dicom-seg")
            == 0
        )
        [file] = (tmp_path / name / "dicom-seg").iterdir()
        written.append(file.read_bytes())
    assert written[0] == written[1]


def test_masks_lie_on_tilted_slices(tmp_path: Path, model: str) -> None:
    series = Series(scan((8, 20, 18)), shear_mm=1.4)
    write_series(tmp_path / "in", series, leave_out=[4])
    formats = ["dicom-seg", "dicom-fractional", "rtstruct"]
    out = tmp_path / "out"
    extra = ["--save-probabilities", "--uncertainty"]
    assert predict(tmp_path / "in", out, "--model", model, "--format", *formats, *extra) == 0
    [file] = (out / "dicom-seg").iterdir()
    positions = {
        tuple(float(mm) for mm in item.PlanePositionSequence[0].ImagePositionPatient)
        for item in dcmread(file).PerFrameFunctionalGroupsSequence
    }
    own = [series.position_mm(z) for z in range(8) if z != 4]
    for position in positions:
        assert min(np.linalg.norm(np.subtract(position, mm)) for mm in own) < 1e-6
    [mask] = out.glob("*.nii.gz")
    labels = read_labels(mask)
    np.testing.assert_allclose(labels.grid.affine_ras_mm, series.affine_ras_mm(), atol=1e-4)
    assert labels.array.shape == series.voxels.shape
    [file] = (out / "probabilities").iterdir()
    assert np.load(file)["probabilities"].shape[1:] == series.voxels.shape


def test_dicom_of_a_scan_that_is_none_is_refused(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 1)
    assert predict(scans, tmp_path / "out", "--model", model, "--format", "dicom-seg") == 1
    assert "its scan is not DICOM" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())  # no network ran for nothing


def test_series_are_chosen_by_their_description(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, description in enumerate(("T1 MPRAGE", "T2")):
        told = {"SeriesDescription": description}
        write_series(tmp_path / "in", Series(scan(), uid=f"1.2.3.{number}", changes=told))
    out = tmp_path / "out"
    assert predict(tmp_path / "in", out, "--model", model, "--series", "CT=*mprage*") == 0
    assert len(list(out.glob("*.nii.gz"))) == 1
    told_of = capsys.readouterr().out
    assert "no channel of the model" in told_of and "1.2.3.1" in told_of
    for wrong in ("PET=*", "CT"):
        assert predict(tmp_path / "in", out, "--model", model, "--series", wrong) == 1
    assert "the channels are CT" in (error := capsys.readouterr().err)
    assert "give CHANNEL=PATTERN" in error
