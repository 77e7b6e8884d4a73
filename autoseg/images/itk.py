"""NRRD and MetaImage (mha, mhd): grids as SimpleITK reads them, voxels read and counted here."""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.raw import Format, RawImage, beyond, nifti_header_of, place, reading
from autoseg.images.text_fields import (
    MM_PER_UNIT,
    NO_PLACE,
    check_numbers,
    misstated_size,
    odd_numbers,
    stated_unit,
)
from autoseg.images.text_headers import TextHeader, data_files, read_stored, read_text_header

IMAGE_IO = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}
NUMBER = re.compile(r"(\d+)-bit (signed|unsigned|float)")  # in SimpleITK's words for a voxel
ERRORS = (RuntimeError, EOFError, OSError, ValueError, zlib.error)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nrrd(path: Path) -> RawImage:
    """Read NRRD; components, or the fourth axis, are channels."""
    return _read(path, "NRRD")


def read_metaimage(path: Path) -> RawImage:
    """Read MetaImage; components, or the fourth axis, are channels."""
    return _read(path, "MetaImage")


def _read(path: Path, kind: str) -> RawImage:
    """The grid as SimpleITK reads it, with voxels that are counted while they are read.

    SimpleITK itself takes voxels for granted that are missing or damaged.
    """
    import SimpleITK as sitk  # noqa: N813  # 0.7 s, and not needed for NIfTI

    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[kind])  # it would not know endings in capitals
    reader.SetFileName(str(path))
    with reading(path, kind, ERRORS):
        path.open("rb").close()  # SimpleITK does not say that it may not
        header = read_text_header(path)
        _refuse_packing(path, header)
        check_numbers(header)
        reader.ReadImageInformation()
    missing = [str(file) for file in data_files(path) if not file.is_file()]
    if missing:
        raise AutosegError(f"{path}: its voxels are missing. Put {', '.join(missing)} back.")
    _refuse_what_is_no_scan(path, reader)
    with reading(path, kind, ERRORS):
        array, surplus = _voxels(header, reader)
        unit, oddities = stated_unit(header)
        oddities += [*odd_numbers(header), *misstated_size(header), *beyond(surplus)]
    affine = affine_ras_mm(reader)
    affine[:3] *= MM_PER_UNIT[unit]
    is_placed = header.is_placed or reader.GetDimension() == 2
    if not is_placed:
        oddities.append(NO_PLACE)
    return RawImage(
        array,
        place(path, array, affine),
        nifti_header_of(affine, min(reader.GetDimension(), 3)),
        is_placed=is_placed,
        oddities=tuple(oddities),
    )


def _voxels(header: TextHeader, reader: Any) -> tuple[NDArray[Any], int]:
    """Voxels [channel, z, y, x], and how many bytes there are beyond them."""
    import SimpleITK as sitk  # noqa: N813

    number = NUMBER.search(sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    assert number is not None
    kind = {"signed": "i", "unsigned": "u", "float": "f"}[number[2]]
    dtype = np.dtype(f"{kind}{int(number[1]) // 8}")
    components = reader.GetNumberOfComponents()
    shape = reader.GetSize()[::-1] + ((components,) if components > 1 else ())
    if header.packing == "other":  # numbers as text, of which SimpleITK misses none
        return voxels_of(reader.Execute()), 0
    array, surplus = read_stored(header, shape, dtype)
    sizes = tuple(int(size) for size in header.fields.get("sizes", "").split())
    if sizes and sizes != shape[::-1]:  # components are not next to each other
        return voxels_of(reader.Execute()), surplus
    return channels_first(array, components > 1, reader.GetDimension()), surplus


def _refuse_packing(path: Path, header: TextHeader) -> None:
    if header.encoding in ("bz2", "bzip2"):
        raise AutosegError(
            f"{path}: its voxels are compressed with bzip2, which SimpleITK does not read. Save it "
            "with gzip, or uncompressed."
        )


def voxels_of(image: Any) -> NDArray[Any]:
    """A SimpleITK image's voxels [channel, z, y, x]; components, or the fourth axis, are channels.

    They are a copy.
    """
    import SimpleITK as sitk  # noqa: N813

    array: NDArray[Any] = np.array(sitk.GetArrayViewFromImage(image))  # views die with the image
    return channels_first(array, image.GetNumberOfComponentsPerPixel() > 1, image.GetDimension())


def channels_first(array: NDArray[Any], has_components: bool, dimension: int) -> NDArray[Any]:
    """An array as ITK stores it, viewed as [channel, z, y, x]."""
    if has_components:
        array = np.moveaxis(array, -1, 0)
    elif dimension < 4:
        array = array[None]
    return array[:, None] if dimension == 2 else array


def _refuse_what_is_no_scan(path: Path, reader: Any) -> None:
    import SimpleITK as sitk  # noqa: N813

    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise AutosegError(
            f"{path}: holds complex numbers. Save magnitude and phase as files of their own."
        )
    size = "x".join(str(n) for n in reader.GetSize())
    components = reader.GetNumberOfComponents()
    if not 2 <= reader.GetDimension() <= 4 - (components > 1):
        raise AutosegError(
            f"{path}: {size} voxels of {components} components are neither a 3D scan nor one of "
            "several channels. Save one 3D image per file."
        )
    if 0 in reader.GetSize():
        raise AutosegError(f"{path}: has no voxels ({size}). Save it again from its source.")


def affine_ras_mm(image: Any) -> NDArray[np.float64]:
    """From file indices (x, y, z) to RAS mm, without a fourth axis; a 2D image lies at z = 0."""
    rank = image.GetDimension()
    axes = min(rank, 3)
    matrix, origin = np.eye(3), np.zeros(3)
    direction = np.array(image.GetDirection()).reshape(rank, rank)
    matrix[:axes, :axes] = direction[:axes, :axes] * image.GetSpacing()[:axes]
    origin[:axes] = image.GetOrigin()[:axes]
    affine: NDArray[np.float64] = LPS_TO_RAS @ from_matvec(matrix, origin)
    return affine


NRRD = Format("NRRD", endings=(".nrrd",), read=read_nrrd, side_files=data_files)
METAIMAGE = Format(
    "MetaImage", endings=(".mha", ".mhd"), read=read_metaimage, side_files=data_files
)
