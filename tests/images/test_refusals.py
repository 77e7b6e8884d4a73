"""Covers: raw."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from autoseg.errors import AutosegError
from autoseg.images.formats import (
    ENDINGS,
    file_ending,
    read_raw,
)
from tests.images.made import (
    BLOCK,
    OBLIQUE,
    RNG,
    SCAN,
    cut,
    damage,
    itk_image,
    save_nifti,
    save_tiff,
)

WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.nii": lambda path: save_nifti(path, BLOCK.T),
    "a.nii.gz": lambda path: save_nifti(path, BLOCK.T),
    "a.mgh": lambda path: nib.save(nib.MGHImage(BLOCK.T, OBLIQUE), path),
    "a.mgz": lambda path: nib.save(nib.MGHImage(BLOCK.T, OBLIQUE), path),
    "a.nrrd": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path)),
    "packed.nrrd": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path), True),
    "a.mha": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path)),
    "packed.mha": lambda path: sitk.WriteImage(itk_image(BLOCK), str(path), True),
    "a.png": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "deep.png": lambda path: sitk.WriteImage(
        sitk.GetImageFromArray(np.stack([BLOCK[0].astype(np.uint16)] * 3, -1), True), str(path)
    ),
    "a.bmp": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "a.jpg": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(path),
    "a.tif": lambda path: save_tiff(path, BLOCK),
    "packed.tif": lambda path: save_tiff(path, BLOCK, compression="deflate"),
    "lzw.tif": lambda path: Image.fromarray(BLOCK[0].astype(np.uint8)).save(
        path, compression="tiff_lzw"
    ),
}


@pytest.mark.parametrize("keep", [0, 0.01, 0.6, 0.95])
@pytest.mark.parametrize("name", WRITERS)
def test_files_cut_short_are_refused(tmp_path: Path, name: str, keep: float) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / name).with_suffix(".json").write_text('{"spacing": [1, 1, 1]}')
    read_raw(tmp_path / name)
    cut(tmp_path / name, keep)
    with pytest.raises(AutosegError, match=r"cannot be read as .* damaged or cut short"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.png", "deep.png"])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
def test_damaged_voxels_with_a_checksum_are_refused(tmp_path: Path, name: str, at: float) -> None:
    WRITERS[name](tmp_path / name)
    damage(tmp_path / name, at)
    with pytest.raises(AutosegError, match=f"{name}: cannot be read"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["packed.nrrd", "packed.mha", "packed.mhd", "packed.tif"])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
def test_damage_that_itk_would_not_mention_is_refused(tmp_path: Path, name: str, at: float) -> None:
    if name == "packed.mhd":
        sitk.WriteImage(itk_image(BLOCK), str(tmp_path / name), True)
        damage(tmp_path / "packed.zraw", at)
    else:
        WRITERS[name](tmp_path / name)
        (tmp_path / "packed.json").write_text('{"spacing": [1, 1, 1]}')
        damage(tmp_path / name, at)
    with pytest.raises(AutosegError, match=f"{name}: cannot be read"):
        read_raw(tmp_path / name)


def test_a_wrong_gzip_checksum_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", BLOCK.T)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the voxels are as they were; nibabel would not look
    path.write_bytes(content)
    with pytest.raises(AutosegError, match="CRC"):
        read_raw(path)


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    header = nib.Nifti1Image(SCAN.T, OBLIQUE).header
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"] = 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    with pytest.raises(AutosegError, match="promises 54000000000000 bytes"):
        read_raw(path)


def test_an_mha_with_too_few_compressed_voxels_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / "a.mha"), True)
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(content.replace(b"DimSize = 6 5 4", b"DimSize = 6 5 9"))
    with pytest.raises(
        AutosegError, match=r"cannot be read as MetaImage \(it holds 240 of 540 bytes"
    ):
        read_raw(tmp_path / "a.mha")


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_complex_numbers_are_refused(tmp_path: Path, name: str) -> None:
    numbers = SCAN.astype(np.complex64)
    if name == "a.nii":
        save_nifti(tmp_path / name, numbers.T)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(numbers), str(tmp_path / name))
    with pytest.raises(AutosegError, match="complex"):
        read_raw(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_series_of_vectors_and_five_axes_are_refused(tmp_path: Path, name: str) -> None:
    for image in (
        sitk.Image([2] * 4, sitk.sitkVectorInt16, 3),
        sitk.Image([2] * 5, sitk.sitkInt16),
    ):
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(AutosegError, match="neither a 3D scan nor one of several channels"):
            read_raw(tmp_path / name)


def test_a_series_of_vectors_in_nifti_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4, 2, 3), np.uint8))
    with pytest.raises(AutosegError, match=r"2x3x4x2x3.*neither a 3D scan"):
        read_raw(path)


def test_an_image_without_voxels_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, dim=[3, 0, 5, 4, 1, 1, 1, 1])
    with pytest.raises(AutosegError, match="0x5x4"):
        read_raw(path)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_affine_without_volume_is_refused(tmp_path: Path, value: float) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, srow_x=[value] * 4, sform_code=1, qform_code=0)
    with pytest.raises(AutosegError, match=r"affine is singular.*sform or qform"):
        read_raw(path)


def test_spacings_of_a_nanometre_are_no_singular_affine(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", SCAN.T, np.diag([1e-6, 1e-6, 1e-6, 1]))
    np.testing.assert_allclose(read_raw(path).grid.spacing_mm, 1e-6)


def test_a_nifti_with_its_voxels_elsewhere_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(SCAN.T, OBLIQUE), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(AutosegError, match=r"in a \.img file"):
        read_raw(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", ENDINGS)
def test_text_named_like_an_image_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_text("Not an image.\n" * 100)
    with pytest.raises(AutosegError, match=f"a{ending}: cannot be read"):
        read_raw(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_named_like_an_image_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").mkdir()
    with pytest.raises(AutosegError, match="this is a folder"):
        read_raw(tmp_path / f"a{ending}")


def test_a_picture_of_grey_and_alpha_with_16_bits_is_refused(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 2**16, (5, 6, 2)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.png"))
    with pytest.raises(AutosegError, match="Save it without alpha"):
        read_raw(tmp_path / "a.png")


def test_endings_are_known_in_any_case() -> None:
    assert file_ending(Path("Scan.NII.GZ")) == ".nii.gz"
    assert file_ending(Path("scan.gz")) is None
