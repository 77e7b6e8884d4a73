"""What cannot be in a NIfTI header is put right as its library does, and told."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.errors import AutosegError
from autoseg.images.formats import read_raw
from autoseg.images.volume import Volume, read_image, read_labels, write_labels
from tests.images.made import OBLIQUE, SCAN, itk_affine_ras, save_nifti


def kinds(path: Path) -> list[str]:
    return [oddity.kind for oddity in read_raw(path).oddities]


def mask_of(path: Path) -> Path:
    """A mask of a scan, written as predictions are."""
    scan = read_image(path)
    mask = path.with_name("mask.nii.gz")
    labels = (scan.array[0] > 0).astype(np.uint8)
    write_labels(mask, Volume(labels, scan.grid, scan.nifti_header))
    return mask


@pytest.mark.parametrize("offset", [0, 1, 347])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_never_begin_within_the_header(
    tmp_path: Path, kind: Any, packed: bool, offset: int
) -> None:
    nib.save(kind(SCAN.T, OBLIQUE), tmp_path / "good.nii")
    good = (tmp_path / "good.nii").read_bytes()
    header = kind.header_class(good[: kind.header_class.sizeof_hdr])
    header["vox_offset"] = offset
    changed = header.binaryblock + good[len(header.binaryblock) :]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(changed) if packed else changed)
    np.testing.assert_array_equal(read_raw(path).array[0], SCAN)
    assert kinds(path) == ["header"]


def test_a_quaternion_rounded_above_one_is_a_turn_as_itk_reads_it(tmp_path: Path) -> None:
    half_turn = np.diag([1.0, -1.0, -1.0, 1.0])
    half_turn[:3, 3] = 3, 4, 5
    path = save_nifti(
        tmp_path / "a.nii",
        SCAN.T,
        half_turn,
        sform_code=0,
        qform_code=1,
        quatern_b=np.float32(1.0000003),
    )
    raw = read_raw(path)
    np.testing.assert_allclose(raw.grid.affine_ras_mm, itk_affine_ras(path), atol=1e-5)
    assert raw.oddities == ()
    for code in ("qform_code", "sform_code"):
        save_nifti(path, SCAN.T, half_turn, **{code: 1, "quatern_b": np.float32(1.0000003)})
    assert kinds(path) == []


def test_a_quaternion_that_is_no_rotation_is_told(tmp_path: Path) -> None:
    path = save_nifti(
        tmp_path / "a.nii", SCAN.T, sform_code=0, qform_code=1, quatern_b=0.9, quatern_c=0.9
    )
    assert kinds(path) == ["header"]
    assert np.isfinite(read_raw(path).grid.affine_ras_mm).all()


@pytest.mark.parametrize("codes", [{"qform_code": 0}, {"sform_code": 0, "qform_code": 1}, {}])
def test_every_reader_puts_a_mask_where_it_puts_a_scan_of_negative_sizes(
    tmp_path: Path, codes: dict[str, int]
) -> None:
    nib.save(nib.Nifti1Image(SCAN.T, np.diag([2.0, 2, 2, 1])), tmp_path / "a.nii")
    path = save_nifti(
        tmp_path / "a.nii",
        SCAN.T,
        np.diag([2.0, 2, 2, 1]),
        pixdim=[1, 2, -2, 2, 0, 0, 0, 0],
        **codes,
    )
    assert "header" in kinds(path)
    mask = mask_of(path)
    np.testing.assert_array_equal(itk_affine_ras(mask), itk_affine_ras(path))
    np.testing.assert_array_equal(nib.load(mask).affine, nib.load(path).affine)
    raw = nib.Nifti1Header(gzip.decompress(mask.read_bytes())[:348], check=False)
    assert raw["pixdim"][1:4].tolist() == [2, -2, 2]


def test_a_scan_that_states_no_orientation_is_told(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, np.eye(4), qform_code=0, sform_code=0)
    assert kinds(path) == ["no_orientation"]
    assert not read_image(path).is_placed
    np.testing.assert_allclose(read_image(path).grid.affine_ras_mm, nib.load(path).affine)


def test_codes_that_mean_nothing_are_told(tmp_path: Path) -> None:
    assert kinds(save_nifti(tmp_path / "a.nii", SCAN.T, sform_code=77)) == ["header"]
    path = save_nifti(tmp_path / "b.nii", SCAN.T, qform_code=-1)
    assert kinds(path) == ["header"]
    np.testing.assert_allclose(read_raw(path).grid.affine_ras_mm, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize(("slope", "told"), [(np.inf, ["header"]), (0, []), (np.nan, [])])
def test_a_slope_that_is_no_number_counts_for_nothing(
    tmp_path: Path, slope: float, told: list[str]
) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, scl_slope=slope, scl_inter=5)
    assert kinds(path) == told
    np.testing.assert_array_equal(read_image(path).array[0], SCAN)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_bytes_behind_the_voxels_are_told(tmp_path: Path, name: str) -> None:
    path = save_nifti(tmp_path / name, SCAN.T)
    path.write_bytes(path.read_bytes() + b"something else")
    assert kinds(path) == ["trailing_bytes"]
    np.testing.assert_array_equal(read_raw(path).array[0], SCAN)


def test_a_wrong_checksum_is_no_trailing_byte(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", SCAN.T)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(AutosegError, match="CRC"):
        read_raw(path)


def test_no_number_of_axes_is_believed(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, dim=[0, 6, 5, 4, 1, 1, 1, 1])
    with pytest.raises(AutosegError, match="states 0 axes"):
        read_raw(path)


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nrrd", "a.tif", "a.png"])
def test_masks_of_pictures_are_pictures(tmp_path: Path, name: str) -> None:
    picture = (SCAN[0] > 0).astype(np.uint8)
    if name == "a.nii":
        nib.save(nib.Nifti1Image(picture.T, np.eye(4)), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / name))
    mask = mask_of(tmp_path / name)
    assert nib.load(mask).shape == (6, 5)
    image = sitk.ReadImage(str(mask))
    assert image.GetDimension() == 2
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), picture)
    np.testing.assert_array_equal(read_labels(mask).array, picture[None])


def test_a_mask_longer_than_nifti_1_is_nifti_2(tmp_path: Path) -> None:
    long = np.zeros((2, 3, 33_000), np.uint8)
    long[1, 2, 32_990:] = 3
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(long), str(path))
    mask = mask_of(path)
    loaded = nib.load(mask)
    assert isinstance(loaded, nib.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(loaded.dataobj).T, long > 0)
    np.testing.assert_allclose(loaded.affine, itk_affine_ras(path))
    stored = gzip.decompress(mask.read_bytes())
    assert struct.unpack_from("<8q", stored, 16)[:4] == (3, 33_000, 3, 2)
    rows = np.frombuffer(stored, "<f8", 12, offset=400).reshape(3, 4)
    np.testing.assert_allclose(rows, itk_affine_ras(path)[:3])
    assert [int(loaded.header[f"{t}_code"]) for t in ("qform", "sform")] == [1, 1]


def test_a_mgh_without_a_matrix_is_told(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(SCAN.T.astype(np.float32), OBLIQUE), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "a.mgh").write_bytes(content)
    assert kinds(tmp_path / "a.mgh") == ["no_orientation"]
    assert not read_raw(tmp_path / "a.mgh").is_placed


@pytest.mark.parametrize("row", [0, np.nan])
def test_an_sform_that_is_none_leaves_the_qform(tmp_path: Path, row: float) -> None:
    image = nib.Nifti1Image(SCAN.T, OBLIQUE)
    image.set_qform(OBLIQUE, 1)
    nib.save(image, tmp_path / "good.nii")
    content = (tmp_path / "good.nii").read_bytes()
    header = nib.Nifti1Header(content[:348])
    header["srow_x"] = header["srow_y"] = header["srow_z"] = row
    (tmp_path / "a.nii").write_bytes(header.binaryblock + content[348:])
    assert kinds(tmp_path / "a.nii") == ["header"]
    found = read_raw(tmp_path / "a.nii").grid.affine_ras_mm
    np.testing.assert_allclose(found, OBLIQUE, atol=1e-4)


def test_extensions_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    image = nib.Nifti1Image(SCAN.T, OBLIQUE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment"))
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[352:356] = struct.pack("<i", 999_999)  # how long it says to be
    (tmp_path / "a.nii").write_bytes(content)
    assert kinds(tmp_path / "a.nii") == ["header"]
    np.testing.assert_array_equal(read_raw(tmp_path / "a.nii").array[0], SCAN)
