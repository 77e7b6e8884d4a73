from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from autoseg.errors import AutosegError
from autoseg.volume import Volume, read_image, read_labels, write_labels

OBLIQUE = from_matvec(euler2mat(0.2, -0.1, 0.3) @ np.diag([0.7, 0.8, -2.5]), [10, -20, 30])


def save_nifti(path: Path, array: Any, affine: Any = OBLIQUE, kind: Any = nib.Nifti1Image) -> Any:
    image = kind(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 4)
    nib.save(image, path)
    return image


def lps_affine(image: sitk.Image) -> np.ndarray:
    """SimpleITK's idea of an affine from file indices to LPS mm."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine: np.ndarray = from_matvec(direction * image.GetSpacing(), image.GetOrigin())
    return affine


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_masks_keep_grid_codes_and_units_and_a_second_library_agrees(
    tmp_path: Path, kind: Any
) -> None:
    source = save_nifti(tmp_path / "scan.nii.gz", np.ones((6, 5, 4), np.float32), kind=kind)
    scan = read_image(tmp_path / "scan.nii.gz")
    labels = np.arange(6 * 5 * 4).reshape(4, 5, 6) % 3
    write_labels(tmp_path / "mask.nii.gz", Volume(labels, scan.grid, scan.nifti_header))

    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), labels.T)
    for form in ("get_qform", "get_sform"):
        expected, code = getattr(source.header, form)(coded=True)
        found, found_code = getattr(mask.header, form)(coded=True)
        np.testing.assert_array_equal(found, expected)
        assert found_code == code
    assert mask.header.get_xyzt_units() == source.header.get_xyzt_units()
    assert mask.get_data_dtype() == np.uint8
    assert isinstance(mask, kind)

    if kind is nib.Nifti2Image:
        return  # SimpleITK does not read NIfTI-2
    second = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(second), labels)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ lps_affine(second), mask.affine, atol=1e-4)


def test_label_values_beyond_a_byte_take_two(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.nii.gz", np.zeros((3, 3, 3), np.int16))
    scan = read_image(tmp_path / "scan.nii.gz")
    labels = np.full((3, 3, 3), 300)
    write_labels(tmp_path / "mask.nii", Volume(labels, scan.grid, scan.nifti_header))
    assert nib.load(tmp_path / "mask.nii").get_data_dtype() == np.uint16


def test_qform_and_sform_that_disagree_are_both_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
    image.header.set_qform(np.diag([1.0, 2, 3, 1]), 1)
    image.header.set_sform(np.diag([3.0, 2, 1, 1]), 2)
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    labels = Volume(np.zeros((5, 4, 3), np.uint8), scan.grid, scan.nifti_header)
    write_labels(tmp_path / "mask.nii.gz", labels)
    header = nib.load(tmp_path / "mask.nii.gz").header
    np.testing.assert_array_equal(header.get_qform(), np.diag([1.0, 2, 3, 1]))
    np.testing.assert_array_equal(header.get_sform(), np.diag([3.0, 2, 1, 1]))


def test_images_are_read_in_reversed_file_order(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    save_nifti(tmp_path / "scan.nii.gz", array)
    volume = read_image(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(volume.array[0], array.T)
    second = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(second))
    np.testing.assert_allclose(volume.grid.spacing_mm, second.GetSpacing()[::-1], rtol=1e-6)


def test_a_4d_file_holds_channels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(6, 5, 4, 2)).astype(np.float32)
    save_nifti(tmp_path / "scan.nii.gz", array)
    np.testing.assert_array_equal(read_image(tmp_path / "scan.nii.gz").array[1], array[..., 1].T)


def test_slope_and_big_endian_are_honoured(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    image = nib.Nifti1Image(np.arange(60).reshape(3, 4, 5).astype(">i2"), np.eye(4), header)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "scan.nii")
    expected = np.asarray(nib.load(tmp_path / "scan.nii").dataobj).T
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii").array[0], expected, atol=1e-5)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    save_nifti(path, np.random.default_rng(0).normal(size=(30, 30, 30)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(AutosegError, match=r"scan\.nii\.gz: cannot be read as NIfTI"):
        read_image(path)


def test_nan_is_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.nii.gz", np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(AutosegError, match="NaN"):
        read_image(tmp_path / "scan.nii.gz")


def test_labels_that_are_fractions_are_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "mask.nii.gz", np.full((3, 3, 3), 0.5, np.float32))
    with pytest.raises(AutosegError, match=r"not integers .*0\.5"):
        read_labels(tmp_path / "mask.nii.gz")


def test_unknown_endings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "scan.xyz").touch()
    with pytest.raises(AutosegError, match="unknown image format"):
        read_image(tmp_path / "scan.xyz")
    with pytest.raises(AutosegError, match="does not exist"):
        read_image(tmp_path / "none.nii.gz")
