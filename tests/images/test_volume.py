import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS
from autoseg.images.volume import Volume, read_image, read_labels, write_labels

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


def save_scaled(path: Path, array: Any, slope: float, intercept: float) -> None:
    """Write stored voxels as they are, with a slope and an intercept in the header."""
    header = nib.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
    header.set_data_dtype(array.dtype)
    image = nib.Nifti1Image(array, np.eye(4), header)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, path)


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "u4", ">f4", "f8"])
@pytest.mark.parametrize("scale", [(0.37, -1024.3), (1.0, 0.1), (2.0, 0.0), (1.0, 0.0)])
def test_scaled_voxels_are_those_of_nibabel_to_the_bit(
    tmp_path: Path, dtype: str, scale: tuple[float, float]
) -> None:
    array = np.random.default_rng(0).integers(0, 200, (7, 6, 5)).astype(dtype)
    save_scaled(tmp_path / "scan.nii.gz", array, *scale)
    expected = nib.load(tmp_path / "scan.nii.gz").get_fdata(dtype=np.float64).T.astype(np.float32)
    image = read_image(tmp_path / "scan.nii.gz").array[0]
    np.testing.assert_array_equal(image.view(np.int32), expected.view(np.int32))


def peak_bytes(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_reading_a_scaled_scan_takes_little_more_than_its_stored_and_final_voxels(
    tmp_path: Path, ending: str
) -> None:
    voxels = 512 * 512 * 128
    path = tmp_path / f"scan{ending}"
    save_scaled(path, np.ones((512, 512, 128), np.int16), 0.5, -10)
    stored_bytes, final_bytes = 2 * voxels, 4 * voxels
    assert peak_bytes(lambda: read_image(path)) < 1.15 * (stored_bytes + final_bytes)


def test_floats_and_integer_labels_are_read_without_a_copy(tmp_path: Path) -> None:
    shape = (256, 256, 64)
    save_nifti(tmp_path / "scan.nii.gz", np.ones(shape, np.float32))
    save_nifti(tmp_path / "mask.nii.gz", np.ones(shape, np.uint8))
    scan_bytes = peak_bytes(lambda: read_image(tmp_path / "scan.nii.gz"))
    mask_bytes = peak_bytes(lambda: read_labels(tmp_path / "mask.nii.gz"))
    assert scan_bytes < 1.25 * 4 * 256 * 256 * 64
    assert mask_bytes < 2 * 256 * 256 * 64  # and what gzip keeps


def test_wide_slices_are_scaled_in_parts_too(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 3000, (1500, 1400, 2, 2)).astype(np.int16)
    save_scaled(tmp_path / "scan.nii", array, 0.5, -10)
    np.testing.assert_array_equal(read_image(tmp_path / "scan.nii").array, array.T * 0.5 - 10)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    save_nifti(path, np.random.default_rng(0).normal(size=(30, 30, 30)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(AutosegError, match=r"scan\.nii\.gz: cannot be read as NIfTI"):
        read_image(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_no_numbers_in_single_precision_are_refused(
    tmp_path: Path, value: float
) -> None:
    array = np.zeros((300, 300, 20, 2))
    array[-1, -1, -1, -1] = value
    save_nifti(tmp_path / "scan.nii", array)
    with pytest.raises(AutosegError, match=r"scan\.nii: contains NaN or infinite voxels"):
        read_image(tmp_path / "scan.nii")


def test_labels_that_are_fractions_are_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "mask.nii.gz", np.full((3, 3, 3), 0.5, np.float32))
    with pytest.raises(AutosegError, match=r"not integers .*0\.5"):
        read_labels(tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**31, -1e10])
def test_labels_beyond_32_bits_are_refused(tmp_path: Path, value: float) -> None:
    save_nifti(tmp_path / "mask.nii.gz", np.full((3, 3, 3), value))
    with pytest.raises(AutosegError, match="not integers of 32 bits"):
        read_labels(tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "i8"])
def test_integer_labels_keep_their_type(tmp_path: Path, dtype: str) -> None:
    save_scaled(tmp_path / "mask.nii", np.arange(60).reshape(3, 4, 5).astype(dtype), 1, 0)
    labels = read_labels(tmp_path / "mask.nii").array
    np.testing.assert_array_equal(labels, np.arange(60).reshape(3, 4, 5).T)
    assert labels.dtype == np.dtype(dtype).newbyteorder("=")
    assert labels.flags.c_contiguous


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, 0.0), (1.0, 1.0), (1 / 3, 0.0)])
def test_scaled_labels_are_what_the_scale_makes_of_them(
    tmp_path: Path, slope: float, intercept: float
) -> None:
    stored = np.random.default_rng(0).integers(0, 5, (3, 4, 5)) * 3
    save_scaled(tmp_path / "mask.nii", stored.astype(np.uint8), slope, intercept)
    labels = read_labels(tmp_path / "mask.nii").array
    np.testing.assert_array_equal(labels, np.rint(stored * slope + intercept).T)


def test_labels_with_channels_are_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "mask.nii", np.zeros((3, 3, 3, 2), np.uint8))
    vectors = sitk.GetImageFromArray(np.zeros((3, 3, 3, 2), np.uint8), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "mask.nrrd"))
    Image.fromarray(np.arange(27, dtype=np.uint8).reshape(3, 3, 3)).save(tmp_path / "mask.png")
    for ending, channels in ((".nii", 2), (".nrrd", 2), (".png", 3)):
        with pytest.raises(AutosegError, match=f"this file has {channels} channels"):
            read_labels(tmp_path / f"mask{ending}")


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_a_palette_picture_is_its_indices_as_labels_and_its_colours_as_image(
    tmp_path: Path, ending: str
) -> None:
    indices = np.random.default_rng(0).integers(0, 3, (5, 6)).astype(np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 10], [0, 200, 0]], np.uint8)
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}").array, indices[None])
    image = read_image(tmp_path / f"a{ending}").array
    np.testing.assert_array_equal(image[:, 0], np.moveaxis(colours[indices], -1, 0))


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_and_labels_of_every_format_have_finite_grids(tmp_path: Path, ending: str) -> None:
    array = np.random.default_rng(0).integers(0, 4, (8, 9)).astype(np.uint8)  # [y, x]
    path = tmp_path / f"scan{ending}"
    if ".nii" in ending or ".mg" in ending:
        kind = nib.MGHImage if ".mg" in ending else nib.Nifti1Image
        nib.save(kind(array.T[..., None], np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    image, labels = read_image(path), read_labels(path)
    assert image.array.shape == (1, 1, 8, 9)
    assert image.array.dtype == np.float32
    np.testing.assert_allclose(np.diag(abs(image.grid.affine_ras_mm)), 1)
    np.testing.assert_array_equal(image.array[0], labels.array)
    if not ending.startswith(".j"):
        np.testing.assert_array_equal(labels.array[0], array)


@pytest.mark.parametrize("ending", [".nrrd", ".mgz", ".png"])
def test_masks_lie_on_scans_that_are_no_nifti(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    if ending == ".mgz":
        nib.save(nib.MGHImage(np.ones((6, 5, 1), np.uint8), OBLIQUE), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 6), np.uint8)), str(path))
    scan = read_image(path)
    write_labels(tmp_path / "mask.nii.gz", Volume(np.ones((1, 5, 6)), scan.grid, scan.nifti_header))
    found = read_labels(tmp_path / "mask.nii.gz").grid
    assert found.shape_vox == scan.grid.shape_vox
    np.testing.assert_allclose(found.affine_ras_mm, scan.grid.affine_ras_mm, atol=1e-5)


def test_unknown_endings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "scan.xyz").touch()
    with pytest.raises(AutosegError, match="unknown image format"):
        read_image(tmp_path / "scan.xyz")
    with pytest.raises(AutosegError, match="does not exist"):
        read_image(tmp_path / "none.nii.gz")
