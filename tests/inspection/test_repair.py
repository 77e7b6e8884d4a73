import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.reading import read_case
from autoseg.dataset.regridding import onto_grid
from autoseg.dataset.synthetic import write_dataset
from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.images.raw import nifti_header_of
from autoseg.images.volume import Volume, read_image
from autoseg.pipeline.check import check_dataset

TURNED = from_matvec(euler2mat(0.2, -0.1, 0.3) @ np.diag([2.0, 1.5, 3.0]), [-20, -15, -10])
STRAIGHT = from_matvec(np.diag([-1.0, 1.0, 1.5]), [15, -12, -11])


def ramp(grid: Grid) -> np.ndarray:
    """x + 2y + 3z of every voxel's place in mm, as [z, y, x]: linear, so resampled exactly."""
    z, y, x = np.indices(grid.shape_vox)
    world = apply_affine(grid.affine_ras_mm, np.stack([x, y, z], axis=-1))
    values: np.ndarray = world @ np.array([1.0, 2.0, 3.0])
    return values.astype(np.float32)


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_values_stay_where_they_are_in_space(shear: float) -> None:
    source_affine = TURNED.copy()
    source_affine[:3, 0] += shear * source_affine[:3, 1]
    source = Grid((20, 24, 22), source_affine)
    target = Grid((9, 10, 12), from_matvec(np.diag([-1.0, 1.2, 1.5]), [5, -3, 8]))
    volume = Volume(ramp(source)[None], source, nifti_header_of(source.affine_ras_mm))
    found = onto_grid(volume, target, nearest=False)[0]
    z, y, x = np.indices(target.shape_vox)
    to_source = np.linalg.inv(source.affine_ras_mm) @ target.affine_ras_mm
    index = apply_affine(to_source, np.stack([x, y, z], axis=-1))
    inside = ((index >= 0) & (index <= np.array(source.shape_vox[::-1]) - 1)).all(axis=-1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found[inside], ramp(target)[inside], atol=1e-3)


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.T, affine), path)


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)


def two_channels(folder: Path) -> Path:
    """A CT and a PET on other grids, the label on the PET's; a sound case; one beyond repair."""
    rng = np.random.default_rng(0)
    rows = ["case,patient,CT,PET,label"]
    for case in ("apart", "sound", "broken"):
        ct = rng.normal(0, 300, size=(16, 24, 30)).astype(np.float32)
        ct[3, 4, 5] = np.nan if case == "apart" else 0
        pet_affine = TURNED if case == "apart" else STRAIGHT
        pet_shape = (10, 18, 16) if case == "apart" else ct.shape
        save(folder / f"{case}_ct.nii.gz", ct, STRAIGHT)
        save(folder / f"{case}_pet.nii.gz", rng.normal(size=pet_shape).astype("f4"), pet_affine)
        label = np.zeros(pet_shape, np.uint8)
        label[4:6, 8:11, 7:10] = 4
        save(folder / f"{case}_mask.nii.gz", label, pet_affine)
        rows.append(f"{case},p_{case},{case}_ct.nii.gz,{case}_pet.nii.gz,{case}_mask.nii.gz")
    (folder / "broken_pet.nii.gz").write_bytes(b"no image")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def test_a_corrected_copy_has_all_files_on_one_grid(tmp_path: Path) -> None:
    source = two_channels(tmp_path / "source")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    report, repairs = check_dataset(source, tmp_path / "fixed", workers=1)
    found = sorted({problem.kind for problem in report.problems})
    assert found == ["not_finite", "unreadable"]  # grids are compared once all can be read
    assert [(r.case_id, r.left_out is None) for r in repairs] == [
        ("apart", True),
        ("broken", False),
    ]
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before

    again, _ = check_dataset(tmp_path / "fixed", None, workers=1)
    assert again.problems == ()
    dataset = open_dataset(tmp_path / "fixed")
    assert dataset.channel_names == ("CT", "PET")
    assert [case.patient_id for case in dataset.cases] == ["p_apart", "p_sound"]
    image, label = read_case(dataset.cases[0])
    assert image.array.shape == (2, 16, 24, 30)
    assert set(np.unique(label.array)) == {0, 4}
    for path in (*dataset.cases[0].files(), dataset.cases[0].label):
        second = sitk.ReadImage(str(path))
        assert second.GetSize() == (30, 24, 16)
        np.testing.assert_allclose(second.GetOrigin(), (-15, 12, -11), atol=1e-4)
        np.testing.assert_allclose(second.GetSpacing(), (1, 1, 1.5), atol=1e-6)
        np.testing.assert_allclose(second.GetDirection(), np.diag([1, -1, 1]).ravel(), atol=1e-6)
    pet = read_image(dataset.cases[1].files()[1])
    np.testing.assert_array_equal(pet.array, read_image(source / "sound_pet.nii.gz").array)


def nnunet_raw(folder: Path, label_affine: np.ndarray, test_too: bool = False) -> Path:
    label = np.zeros((6, 7, 8), np.uint8)
    label[2:4, 2:5, 2:6] = 1
    save(folder / "imagesTr" / "a_0000.nii.gz", noise(), STRAIGHT)
    save(folder / "labelsTr" / "a.nii.gz", label, label_affine)
    if test_too:
        save(folder / "imagesTs" / "a_0000.nii.gz", noise() + 1, STRAIGHT)
    declared = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "organ": 1}}
    (folder / "dataset.json").write_text(json.dumps(declared))
    return folder


def test_a_label_whose_header_is_most_likely_wrong_is_not_moved(tmp_path: Path) -> None:
    source = nnunet_raw(tmp_path / "source", np.eye(4))
    with pytest.raises(AutosegError, match="no case can be corrected safely"):
        check_dataset(source, tmp_path / "fixed", workers=1)
    for part in ("imagesTr/a_0000", "labelsTr/a"):
        image = nib.load(source / f"{part}.nii.gz")
        other = nib.Nifti1Image(np.asarray(image.dataobj), STRAIGHT)
        nib.save(other, source / f"{part.replace('/a', '/b')}.nii.gz")
    _, repairs = check_dataset(source, tmp_path / "fixed", workers=1)
    assert [repair.case_id for repair in repairs] == ["a"]
    assert "one of the two headers is wrong" in str(repairs[0].left_out)


def test_test_scans_may_have_the_names_of_training_scans(tmp_path: Path) -> None:
    source = nnunet_raw(tmp_path / "source", STRAIGHT, test_too=True)
    check_dataset(source, tmp_path / "fixed", workers=1)
    fixed = open_dataset(tmp_path / "fixed")
    assert len(fixed.cases) == len(fixed.test_cases) == 1
    np.testing.assert_array_equal(read_image(fixed.cases[0].files()[0]).array[0], noise())
    np.testing.assert_array_equal(read_image(fixed.test_cases[0].files()[0]).array[0], noise() + 1)


def test_a_single_scan_is_not_fixed(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", noise(), STRAIGHT)
    with pytest.raises(AutosegError, match="this is a single scan"):
        check_dataset(tmp_path / "a.nii.gz", tmp_path / "fixed", workers=1)


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    source = two_channels(tmp_path / "source")
    with pytest.raises(AutosegError, match="this folder is not empty"):
        check_dataset(source, source, workers=1)


def test_labels_regions_and_objects_are_declared_alike_in_the_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save(source / "imagesTr" / "a_0000.nii.gz", noise(), STRAIGHT)
    label = np.resize(np.arange(5, dtype=np.uint8), (6, 7, 8))
    save(source / "labelsTr" / "a.nii.gz", label, STRAIGHT)
    declared: dict[str, Any] = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "all": [1, 2, 3], "core": [2, 3], "ignore": 4},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
    }
    (source / "dataset.json").write_text(json.dumps(declared))
    check_dataset(source, tmp_path / "fixed", workers=1)
    assert open_dataset(tmp_path / "fixed").labels == open_dataset(source).labels

    objects = tmp_path / "objects"
    save(objects / "images" / "a.nii.gz", noise(), STRAIGHT)
    save(
        objects / "instances" / "a.nii.gz",
        np.resize(np.arange(300, dtype=np.int16), (6, 7, 8)),
        STRAIGHT,
    )
    check_dataset(objects, tmp_path / "fixed_objects", workers=1)
    fixed = open_dataset(tmp_path / "fixed_objects")
    assert fixed.labels == open_dataset(objects).labels
    assert read_case(fixed.cases[0])[1].array.max() == 299


def test_the_units_of_a_copy_are_mm(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("images/a", "labels/a"):
        path = source / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        array = np.random.default_rng(0).integers(0, 3, (6, 7, 8)).astype(np.uint8)
        image = nib.Nifti1Image(array, np.diag([500.0, 600.0, 700.0, 1.0]))
        image.header.set_xyzt_units("micron")
        nib.save(image, path)
    _, repairs = check_dataset(source, tmp_path / "fixed", workers=1)
    fixed = sitk.ReadImage(str(tmp_path / "fixed" / "train" / "images" / "a_0000.nii.gz"))
    np.testing.assert_allclose(fixed.GetSpacing(), (0.5, 0.6, 0.7), rtol=1e-6)
    header = nib.load(tmp_path / "fixed" / "train" / "labels" / "a.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_zooms(), (0.5, 0.6, 0.7), rtol=1e-6)
    assert repairs


def test_a_turned_label_is_written_in_its_scans_order_and_planned(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, 2, shape_vox=(40, 36, 14))
    for path in (data / "labelsTr").iterdir():
        label = nib.load(path)
        turned = label.as_reoriented(np.array([[0, -1], [2, 1], [1, 1]]))
        nib.save(turned, path)
    report, repairs = check_dataset(data, tmp_path / "fixed", workers=1)
    assert {problem.kind for problem in report.problems} == {"turned_label"}
    assert all("it is turned" in repair.changes[0] for repair in repairs)
    again, _ = check_dataset(tmp_path / "fixed", None, workers=1)
    assert again.problems == ()
    for case in open_dataset(tmp_path / "fixed").cases:
        files = (data / "labelsTr" / f"{case.case_id}.nii.gz", case.label)
        before, after = (nib.as_closest_canonical(nib.load(str(file))) for file in files)
        np.testing.assert_array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
        np.testing.assert_allclose(before.affine, after.affine, atol=1e-5)


def test_odd_headers_are_written_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, 2, shape_vox=(40, 36, 14))
    path = sorted((data / "imagesTr").iterdir())[0]
    path.write_bytes(path.read_bytes() + b"more")
    report, _ = check_dataset(data, tmp_path / "fixed", workers=1)
    assert [problem.kind for problem in report.problems] == ["trailing_bytes"]
    again, _ = check_dataset(tmp_path / "fixed", None, workers=1)
    assert again.problems == ()


def test_where_a_label_alone_states_a_place_both_are_written_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, 2, shape_vox=(40, 36, 14))
    placed = {path.name: nib.load(path).affine for path in (data / "labelsTr").iterdir()}
    for path in (data / "imagesTr").iterdir():
        image = nib.load(path)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nib.save(image, path)
    check_dataset(data, tmp_path / "fixed", workers=1)
    again, _ = check_dataset(tmp_path / "fixed", None, workers=1)
    assert again.problems == ()
    for case in open_dataset(tmp_path / "fixed").cases:
        expected = placed[f"{case.case_id}.nii.gz"]
        for file in (*case.files(), case.label):
            np.testing.assert_allclose(nib.load(str(file)).affine, expected, atol=1e-4)
