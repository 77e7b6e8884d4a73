"""NRRD and MetaImage (mha, mhd), as SimpleITK reads them."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.raw import Format, RawImage, nifti_header_of, place, reading
from autoseg.images.text_headers import check_compression, data_files

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_with_simpleitk(path: Path) -> RawImage:
    """Read NRRD or MetaImage; components, or the fourth axis, are channels."""
    import SimpleITK as sitk  # noqa: N813  # 0.7 s, and not needed for NIfTI

    kind = path.suffix[1:].upper()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with reading(path, kind, (RuntimeError,)):
        reader.ReadImageInformation()
    missing = [str(file) for file in data_files(path) if not file.is_file()]
    if missing:
        raise AutosegError(f"{path}: its voxels are missing. Put {', '.join(missing)} back.")
    _refuse_what_is_no_scan(path, reader)
    with reading(path, kind, (RuntimeError, EOFError, OSError, zlib.error)):
        image = reader.Execute()
        array = voxels_of(image)
        check_compression(path, array.nbytes)
    affine = affine_ras_mm(image)
    return RawImage(array, place(path, array, affine), nifti_header_of(affine))


def voxels_of(image: Any) -> NDArray[Any]:
    """A SimpleITK image's voxels [channel, z, y, x]; components, or the fourth axis, are channels.

    They are a copy.
    """
    import SimpleITK as sitk  # noqa: N813

    array: NDArray[Any] = np.array(sitk.GetArrayViewFromImage(image))  # views die with the image
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    return array[:, None] if image.GetDimension() == 2 else array


def _refuse_what_is_no_scan(path: Path, reader: Any) -> None:
    import SimpleITK as sitk  # noqa: N813

    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise AutosegError(
            f"{path}: holds complex numbers. Save magnitude and phase as files of their own."
        )
    size = "x".join(str(n) for n in reader.GetSize())
    components = reader.GetNumberOfComponents()
    if reader.GetDimension() + (components > 1) > 4:
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


NRRD = Format("NRRD", endings=(".nrrd",), read=read_with_simpleitk, side_files=data_files)
METAIMAGE = Format(
    "MetaImage", endings=(".mha", ".mhd"), read=read_with_simpleitk, side_files=data_files
)
