"""Covers: itk, nifti."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import from_matvec

from autoseg.images.dicom.opening import is_dicom
from autoseg.images.formats import (
    file_ending,
    read_raw,
)
from autoseg.images.nifti_header import stated_unit, transforms_disagree
from tests.conftest import SHARED_DATA
from tests.images.made import (
    OBLIQUE,
    RNG,
    SCAN,
    itk_affine_ras,
    itk_image,
    save_nifti,
)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
def test_volumes_lie_where_simpleitk_put_them(tmp_path: Path, name: str) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / name))
    raw = read_raw(tmp_path / name)
    np.testing.assert_array_equal(raw.array[0], SCAN)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgh", "a.mgz"])
def test_volumes_lie_where_nibabel_put_them(tmp_path: Path, name: str) -> None:
    kind = nib.MGHImage if ".mg" in name else nib.Nifti1Image
    nib.save(kind(SCAN.T, OBLIQUE), tmp_path / name)
    second = nib.load(tmp_path / name)
    raw = read_raw(tmp_path / name)
    np.testing.assert_array_equal(raw.array[0], np.asarray(second.dataobj).T)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, second.affine, atol=1e-6)
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), second.affine, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", ">u2", "i4", ">f4", "f8", "u8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_of_every_type_and_byte_order(tmp_path: Path, dtype: str, kind: Any) -> None:
    array = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
    header = kind.header_class(endianness=">" if ">" in dtype else "<")
    header.set_data_dtype(np.dtype(dtype))
    nib.save(kind(array, OBLIQUE, header), tmp_path / "a.nii")
    raw = read_raw(tmp_path / "a.nii")
    np.testing.assert_array_equal(raw.array[0], array.T)
    assert raw.array.dtype == np.dtype(dtype)


def test_sheared_axes_keep_their_shear(tmp_path: Path) -> None:
    affine = OBLIQUE.copy()
    affine[0, 1] += 0.3
    path = save_nifti(tmp_path / "a.nii", SCAN.T, affine)
    np.testing.assert_allclose(read_raw(path).grid.affine_ras_mm, affine, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 4), (3, 4, 5, 1), (3, 4, 5, 1, 1), (3, 4, 1, 1, 1, 1)])
def test_axes_of_length_one_are_no_channels(tmp_path: Path, size: tuple[int, ...]) -> None:
    array = RNG.normal(size=size).astype(np.float32)
    raw = read_raw(save_nifti(tmp_path / "a.nii", array))
    np.testing.assert_array_equal(raw.array[0], array.reshape((*size, 1)[:3]).T)


@pytest.mark.parametrize("size", [(3, 4, 5, 2), (3, 4, 5, 1, 2), (3, 4, 5, 2, 1)])
def test_one_axis_after_the_third_holds_channels(tmp_path: Path, size: tuple[int, ...]) -> None:
    array = RNG.normal(size=size).astype(np.float32)
    raw = read_raw(save_nifti(tmp_path / "a.nii", array))
    np.testing.assert_array_equal(raw.array, array.reshape(3, 4, 5, 2).T)


@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_nifti_colours_are_channels_without_alpha(tmp_path: Path, colours: str) -> None:
    voxels = np.zeros((3, 4, 5), [(colour, "u1") for colour in colours])
    for number, colour in enumerate(colours):
        voxels[colour] = RNG.integers(0, 255, (3, 4, 5)) // (number + 1)
    raw = read_raw(save_nifti(tmp_path / "a.nii", voxels))
    np.testing.assert_array_equal(raw.array, np.stack([voxels[c].T for c in "RGB"]))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_components_and_a_fourth_axis_are_channels(tmp_path: Path, ending: str) -> None:
    scans = np.stack([SCAN, SCAN + 1])
    components = sitk.GetImageFromArray(np.moveaxis(scans, 0, -1), isVector=True)
    sitk.WriteImage(components, str(tmp_path / f"a{ending}"))
    sitk.WriteImage(sitk.JoinSeries([itk_image(s) for s in scans]), str(tmp_path / f"b{ending}"))
    np.testing.assert_array_equal(read_raw(tmp_path / f"a{ending}").array, scans)
    np.testing.assert_array_equal(read_raw(tmp_path / f"b{ending}").array, scans)
    affine = read_raw(tmp_path / f"b{ending}").grid.affine_ras_mm
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-6)


def test_a_2d_nrrd_is_one_slice(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(SCAN[0])
    image.SetSpacing([0.5, 0.7])
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    raw = read_raw(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(raw.array, SCAN[None, :1])
    np.testing.assert_allclose(raw.grid.affine_ras_mm, np.diag([-0.5, -0.7, 1, 1]))


def test_a_gzip_file_is_known_by_its_content(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", SCAN.T)
    (tmp_path / "a.nii.gz").rename(tmp_path / "packed.nii")
    save_nifti(tmp_path / "b.nii", SCAN.T)
    (tmp_path / "b.nii").rename(tmp_path / "plain.nii.gz")
    for name in ("packed.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_raw(tmp_path / name).array[0], SCAN)


@pytest.mark.parametrize(("name", "unit"), [("meter", "m"), ("mm", "mm"), ("micron", "um")])
def test_grids_are_in_millimetres_whatever_the_header_states(
    tmp_path: Path, name: str, unit: str
) -> None:
    image = nib.Nifti1Image(SCAN.T, OBLIQUE)
    image.header.set_xyzt_units(name)
    nib.save(image, tmp_path / "a.nii")
    raw = read_raw(tmp_path / "a.nii")
    np.testing.assert_allclose(
        raw.grid.affine_ras_mm, itk_affine_ras(tmp_path / "a.nii"), rtol=1e-5, atol=1e-6
    )
    assert stated_unit(raw.nifti_header) == unit
    np.testing.assert_allclose(raw.nifti_header.get_best_affine(), OBLIQUE, atol=1e-5)


def test_an_undefined_unit_code_is_an_unknown_unit(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, xyzt_units=7)
    assert stated_unit(read_raw(path).nifti_header) == "unknown"
    np.testing.assert_allclose(read_raw(path).grid.affine_ras_mm, OBLIQUE, atol=1e-6)


def test_without_qform_and_sform_the_scan_lies_as_nibabel_says(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, sform_code=0, qform_code=0)
    expected = nib.load(path).affine
    np.testing.assert_array_equal(read_raw(path).grid.affine_ras_mm, expected)


@pytest.mark.parametrize(("shift_mm", "disagree"), [(0.0, False), (0.05, False), (0.3, True)])
def test_qform_and_sform_apart_are_noticed(shift_mm: float, disagree: bool) -> None:
    header = nib.Nifti1Image(SCAN.T, OBLIQUE).header
    shifted = OBLIQUE.copy()
    shifted[0, 3] += shift_mm
    header.set_qform(shifted, 1)
    header.set_sform(OBLIQUE, 1)
    assert transforms_disagree(header) is disagree
    header.set_qform(shifted, 0)
    assert not transforms_disagree(header)


def test_how_far_transforms_are_apart_is_measured_in_millimetres() -> None:
    header = nib.Nifti1Image(SCAN.T, np.eye(4)).header
    header.set_qform(from_matvec(np.eye(3), [0.001, 0, 0]), 1)
    header.set_sform(np.eye(4), 1)
    assert not transforms_disagree(header)
    header.set_xyzt_units("meter")
    assert transforms_disagree(header)


def test_a_qform_that_is_no_rotation_disagrees(tmp_path: Path) -> None:
    quaternion = {"quatern_b": 1, "quatern_c": 1, "quatern_d": 1}
    path = save_nifti(tmp_path / "a.nii", SCAN.T, sform_code=1, qform_code=1, **quaternion)
    assert transforms_disagree(read_raw(path).nifti_header)


ODD = [
    path
    for tool in ("nibabel", "mirp")
    for path in sorted((SHARED_DATA / "odd_headers" / tool).rglob("*"))
    if path.is_file() and file_ending(path) and not is_dicom(path)
]


@pytest.mark.skipif(not ODD, reason="real data are not here")
@pytest.mark.parametrize("path", ODD, ids=lambda path: path.name)
def test_odd_real_files_are_read_as_nibabel_reads_them(path: Path) -> None:
    second = nib.load(path)
    raw = read_raw(path)
    stored = second.dataobj.get_unscaled()
    np.testing.assert_array_equal(raw.array.reshape(stored.T.shape), stored.T)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, second.affine, atol=1e-6)
