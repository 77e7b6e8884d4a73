"""`autoseg predict` with all that it can write, on files as they come.

Covers: inference.probabilities, mask_writer, scan_by_scan.
"""

import json
import shutil
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from autoseg.checkpoint import METADATA_KEY, read_tensors, save_tensors
from autoseg.cli import main
from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.images.dicom.opening import is_dicom
from autoseg.inference.predictor import Predictor
from autoseg.pipeline.mask_writer import MaskWriter
from autoseg.pipeline.scan_by_scan import predict_cases
from tests.conftest import SHARED_DATA
from tests.inference.model_files import small_configuration, write_model

AFFINE = np.array([[0, -0.8, 0, 10], [0.8, 0, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
ODD = SHARED_DATA / "odd_headers"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    return str(write_model(folder / "model.safetensors", small_configuration()))


def write_scans(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        noise = np.random.default_rng(seed).normal(100, 20, (31, 27, 11))
        smooth = ndimage.gaussian_filter(noise, 2).astype(np.float32)
        nib.save(nib.Nifti1Image(smooth, AFFINE), folder / f"scan_{seed}.nii.gz")
    return folder


def predict(*arguments: str | Path) -> int:
    fixed = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
    return main(["predict", *map(str, arguments), *fixed])


def test_everything_that_is_written_lies_where_the_scan_does(tmp_path: Path, model: str) -> None:
    scans, out = write_scans(tmp_path / "in", 1), tmp_path / "out"
    extras = ["--uncertainty", "--save-probabilities", "--instances", "--min-volume", "20"]
    assert predict(scans, out, "--model", model, *extras) == 0
    written = ["scan_0.nii.gz", "uncertainty/scan_0_entropy.nii.gz", "instances/scan_0.nii.gz"]
    scan = sitk.ReadImage(scans / "scan_0.nii.gz")
    for name in written:
        image = sitk.ReadImage(out / name)
        assert image.GetSize() == scan.GetSize()
        np.testing.assert_allclose(image.GetDirection(), scan.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(image.GetOrigin(), scan.GetOrigin(), atol=1e-5)
        np.testing.assert_array_equal(nib.load(out / name).affine, AFFINE.astype(np.float32))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(out / "scan_0.nii.gz"))
    numbers = sitk.GetArrayFromImage(sitk.ReadImage(out / "instances" / "scan_0.nii.gz"))
    objects = json.loads((out / "instances" / "scan_0.json").read_text())
    assert [item["number"] for item in objects] == list(range(1, numbers.max() + 1))
    for item in objects:
        assert set(mask[numbers == item["number"]]) == {item["value"]}
        assert item["volume_mm3"] >= 20
    probability = np.load(out / "probabilities" / "scan_0.npz")["probabilities"]
    clear = np.diff(np.sort(probability.astype(float), axis=0)[-2:], axis=0)[0] > 1e-2
    np.testing.assert_array_equal(probability.argmax(0)[clear], mask[clear])


def test_a_scan_that_fails_is_named_and_the_others_are_done(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 4)
    whole = (scans / "scan_1.nii.gz").read_bytes()
    (scans / "scan_1.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert predict(scans, tmp_path / "out", "--model", model) == 1
    assert "scan_1.nii.gz: cannot be read as NIfTI" in capsys.readouterr().err
    (scans / "scan_1.nii.gz").write_bytes(whole)
    assert predict(scans, tmp_path / "out", "--model", model) == 0
    assert "Wrote 1 mask to" in (told := capsys.readouterr().out)
    assert "kept 3 that were there" in told


def test_a_scan_without_a_channel_is_named_and_the_others_are_done(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 1)
    for channel in ("0000", "0001"):
        shutil.copy(scans / "scan_0.nii.gz", scans / f"two_{channel}.nii.gz")
    assert predict(scans, tmp_path / "out", "--model", model) == 1
    told = capsys.readouterr()
    assert "two: has channels 0000, 0001, but the model needs 0000 alone" in told.err
    assert "Wrote 1 mask to" in told.out


def test_what_cannot_be_done_is_said_at_once(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 1)
    named = write_scans(tmp_path / "named", 1)
    (named / "scan_0.nii.gz").rename(named / "scan_0_0000.nii.gz")
    (tmp_path / "file").touch()
    (tmp_path / "slice").write_bytes(bytes(128) + b"DICM")
    for source, output, message in (
        (scans, scans, "its mask would replace the scan"),
        (named, named, "the scans lie here"),
        (scans, tmp_path / "file", "cannot be made"),
        (tmp_path / "file", tmp_path / "out", "no image that autoseg reads. Known endings: .nii"),
        (tmp_path / "slice", tmp_path / "out", "cannot be read as DICOM"),
    ):
        assert predict(source, output, "--model", model) == 1
        assert message in capsys.readouterr().err


def test_a_model_of_an_older_format_is_refused_with_the_way_out(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 1)
    tensors, metadata = read_tensors(Path(model))
    card = json.loads(metadata[METADATA_KEY])
    for version, way_out in ((1, "Train or import it again."), (99, "Upgrade autoseg.")):
        other = tmp_path / f"format_{version}.safetensors"
        described = json.dumps(card | {"format_version": version})
        save_tensors(other, tensors, {METADATA_KEY: described})
        assert predict(scans, tmp_path / "out", "--model", other) == 1
        told = capsys.readouterr().err
        assert f"format_{version}.safetensors: model format {version} is not the one that" in told
        assert way_out in told
    assert not (tmp_path / "out").exists()


def test_a_slice_for_a_model_of_volumes_is_warned_of(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 1)
    whole = nib.load(scans / "scan_0.nii.gz")
    nib.save(whole.slicer[:, :, :1], scans / "scan_0.nii.gz")
    assert predict(scans, tmp_path / "out", "--model", model) == 0
    assert "is a single slice" in capsys.readouterr().err


def test_one_thing_after_another_gives_the_same_masks(tmp_path: Path, model: str) -> None:
    scans = write_scans(tmp_path / "in", 3)
    for name, extra in (("ahead", []), ("alone", ["--one-at-a-time"])):
        assert predict(scans, tmp_path / name, "--model", model, *extra) == 0
    for path in sorted((tmp_path / "ahead").glob("*.nii.gz")):
        assert path.read_bytes()[20:] == (tmp_path / "alone" / path.name).read_bytes()[20:]


@pytest.mark.skipif(not ODD.is_dir(), reason=f"real data are not here: {ODD}")
def test_odd_files_get_a_mask_on_their_grid_or_a_refusal(tmp_path: Path, model: str) -> None:
    pinned = json.loads((Path(__file__).parents[1] / "images" / "odd_headers.json").read_text())
    predictor = Predictor.load([Path(model)], "cpu", "fp32", "torch")
    writer = MaskWriter(tmp_path)
    done = refused = 0
    for name, outcome in pinned.items():
        grown = prod(outcome.get("shape_vox", [1])) * prod(outcome.get("spacing_mm", [1]))
        if grown > 3e4:  # voxels on the model's grid, about
            continue
        case = Case(f"odd_{done + refused}", (ChannelSource(ODD / name, None),), None, "odd")
        written, problems = predict_cases(predictor, [case], writer)
        assert len(written) + len(problems) == 1
        if problems:
            refused += 1
            assert case.case_id in problems[0] or Path(name).name in problems[0]
            continue
        done += 1
        if is_dicom(ODD / name):  # which nibabel does not read
            continue
        mask, scan = nib.load(tmp_path / f"{case.case_id}.nii.gz"), nib.load(ODD / name)
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
        assert mask.shape == scan.shape[:3]
    assert done > 5 and refused > 5


def test_a_single_mask_may_be_named_as_a_file(tmp_path: Path, model: str) -> None:
    scans = write_scans(tmp_path / "in", 2)
    one = scans / "scan_0.nii.gz"
    assert predict(one, tmp_path / "there" / "mask.nii.gz", "--model", model) == 0
    assert nib.load(tmp_path / "there" / "mask.nii.gz").shape == nib.load(one).shape


@pytest.mark.parametrize(("scan", "name"), [("", "mask.nii.gz"), ("scan_0.nii.gz", "mask.nrrd")])
def test_a_folder_that_looks_like_a_file_is_refused(
    tmp_path: Path, model: str, scan: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 2)
    assert predict(scans / scan, tmp_path / name, "--model", model) == 1
    assert f"{name}: looks like a file" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_name_that_cannot_be_written_is_told_before_and_stops_no_other(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "in", 2)
    long = "x" * (255 - len(".nii"))  # three bytes too many for its mask, which is compressed
    (scans / "scan_0.nii.gz").rename(scans / f"{long}.nii")
    assert predict(scans, tmp_path / "out", "--model", model) == 1
    assert "its name is too long" in capsys.readouterr().err
    assert (tmp_path / "out" / "scan_1.nii.gz").is_file()


def test_what_is_odd_in_a_scan_is_told_and_kept_with_its_mask(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scans(tmp_path / "in", 1) / "scan_0.nii.gz"
    image = nib.load(path)
    image.set_qform(np.diag([1.2, 1.2, 1.2, 1]), 1)
    nib.save(image, path)
    assert predict(path, tmp_path / "out", "--model", model) == 0
    assert "scan_0.nii.gz: its qform and sform" in capsys.readouterr().err
    provenance = json.loads((tmp_path / "out" / "provenance.jsonl").read_text())
    assert any("qform and sform" in warning for warning in provenance["warnings"])
    mask = nib.load(tmp_path / "out" / "scan_0.nii.gz")
    np.testing.assert_array_equal(mask.header.get_qform(), nib.load(path).header.get_qform())
    assert sitk.ReadImage(tmp_path / "out" / "scan_0.nii.gz").GetDirection() == (
        sitk.ReadImage(path).GetDirection()
    )


def test_a_name_is_only_too_long_for_what_is_asked_for(tmp_path: Path, model: str) -> None:
    scans = write_scans(tmp_path / "in", 1)
    long = "x" * (255 - len(".nii.gz"))
    (scans / "scan_0.nii.gz").rename(scans / f"{long}.nii.gz")
    assert predict(scans, tmp_path / "out", "--model", model) == 0
    assert predict(scans, tmp_path / "more", "--model", model, "--uncertainty") == 1
    assert not (tmp_path / "more" / f"{long}.nii.gz").exists()
