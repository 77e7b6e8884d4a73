"""Images in and out of files, with their place in space kept to the bit."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import from_matvec
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.records import replacing

READ_ERRORS = (ImageFileError, HeaderDataError, EOFError, zlib.error, gzip.BadGzipFile, ValueError)


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels on a grid: `array` is [channel, z, y, x] for images, [z, y, x] for labels.

    `nifti_header` is the source's own header, so that a mask can be written with the same qform,
    sform, codes and units.
    """

    array: NDArray[Any]
    grid: Grid
    nifti_header: Any


def read_image(path: Path) -> Volume:
    """Read a scan as float32 [channel, z, y, x]; a 4D file gives several channels.

    Raises AutosegError when the file is absent, damaged, no image, or holds NaN or infinity.
    """
    volume = _reader(path)(path)
    array = np.ascontiguousarray(volume.array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise AutosegError(
            f"{path}: contains NaN or infinite voxels. Replace them, for example with the "
            "background's value."
        )
    return Volume(array, volume.grid, volume.nifti_header)


def read_labels(path: Path) -> Volume:
    """Read a label map as integers [z, y, x].

    Raises AutosegError when the file cannot be read, has channels, or holds fractions.
    """
    volume = _reader(path)(path)
    if volume.array.shape[0] != 1:
        raise AutosegError(
            f"{path}: a label map must be 3D, but this file has {volume.array.shape[0]} channels. "
            "Save one 3D volume of integers."
        )
    array = volume.array[0]
    if array.dtype.kind not in "iu":
        rounded = np.rint(array)
        if not np.array_equal(rounded, array):
            raise AutosegError(
                f"{path}: label values are not integers (for example "
                f"{float(array[rounded != array].flat[0]):.4g}). Save the labels as integers."
            )
        array = rounded.astype(np.int32)
    return Volume(np.ascontiguousarray(array), volume.grid, volume.nifti_header)


def write_labels(path: Path, labels: Volume) -> None:
    """Write an integer label map [z, y, x] as NIfTI, atomically.

    Affine, qform and sform with their codes, and units are those of its header, which is the
    source scan's; the data type is the smallest unsigned integer that holds every label.
    """
    assert labels.array.shape == labels.grid.shape_vox, (labels.array.shape, labels.grid)
    dtype = np.min_scalar_type(int(labels.array.max(initial=0)))
    header = labels.nifti_header.copy()
    header.set_data_dtype(dtype)
    header["dim"][4:] = 1
    header["scl_slope"] = header["scl_inter"] = np.nan  # labels are stored as they are
    header["cal_max"] = header["cal_min"] = 0
    header.set_intent("none")
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # Without an affine of its own the image keeps the header's transforms and codes untouched.
    image = kind(labels.array.astype(dtype, copy=False).T, None, header)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def file_ending(path: Path) -> str | None:
    """The known ending of a file's name, or None: `scan.nii.gz` gives `.nii.gz`."""
    return next((ending for ending in READERS if path.name.lower().endswith(ending)), None)


def _reader(path: Path) -> Callable[[Path], Volume]:
    if not path.exists():
        raise AutosegError(f"{path}: this file does not exist.")
    if not path.is_file():
        raise AutosegError(f"{path}: this is a folder, where an image file is expected.")
    ending = file_ending(path)
    if ending is None:
        raise AutosegError(f"{path}: unknown image format. Known endings: {', '.join(READERS)}.")
    return READERS[ending]


def _read_nifti(path: Path) -> Volume:
    try:
        image: Any = nib.load(path)
        array = np.asanyarray(image.dataobj)
    except (*READ_ERRORS, OSError) as error:
        raise AutosegError(
            f"{path}: cannot be read as NIfTI ({error}). The file may be damaged or cut short; "
            "copy it again from its source."
        ) from None
    if array.dtype.names:  # RGB voxels
        array = np.stack([array[name] for name in array.dtype.names], axis=-1)
    if array.dtype.kind == "c":
        raise AutosegError(f"{path}: holds complex numbers. Save magnitude and phase apart.")
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0]  # NIfTI vector images: the fifth axis holds the channels
    array = array.reshape(array.shape + (1,) * (3 - array.ndim))
    if array.ndim not in (3, 4) or array.size == 0:
        raise AutosegError(
            f"{path}: has shape {array.shape}, but a 3D scan, or a 4D one of several channels, is "
            "expected."
        )
    array = array.T if array.ndim == 4 else array.T[None]  # [channel, z, y, x]
    affine = np.asarray(image.affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise AutosegError(f"{path}: its affine is singular. Correct the header's sform or qform.")
    _, z, y, x = array.shape
    return Volume(array, Grid((z, y, x), affine), image.header)


def _read_with_simpleitk(path: Path) -> Volume:
    import SimpleITK as sitk  # noqa: N813  # 0.7 s, and not needed for NIfTI

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise AutosegError(
            f"{path}: cannot be read ({reason}). The file may be damaged or cut short; copy it "
            "again from its source."
        ) from None
    array = np.array(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)  # [channel, z, y, x]
    elif image.GetDimension() == 4:
        image = image[..., 0]
    else:
        array = array[None]
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
        array = array[:, None]
    lps_affine = from_matvec(
        np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing(), image.GetOrigin()
    )
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_affine
    _, z, y, x = array.shape
    return Volume(array, Grid((z, y, x), affine), nifti_header_of(affine))


def _read_with_pillow(path: Path) -> Volume:
    """A 2D picture as [channel, 1, y, x] on a grid of 1 mm; colours are channels, alpha is dropped.

    A palette picture gives its indices, which is how label pictures are saved.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            mode = picture.mode
            array = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise AutosegError(
            f"{path}: cannot be read as a picture ({error}). The file may be damaged or cut short."
        ) from None
    if mode in ("RGBA", "LA"):
        array = array[..., :-1]
    array = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    channel, y, x = array.shape
    affine = np.eye(4)
    return Volume(array.reshape(channel, 1, y, x), Grid((1, y, x), affine), nifti_header_of(affine))


def nifti_header_of(affine_ras_mm: NDArray[np.float64]) -> Any:
    """A NIfTI-1 header with an affine as both qform and sform, in mm."""
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine_ras_mm).header
    header.set_qform(affine_ras_mm, 1)
    header.set_sform(affine_ras_mm, 1)
    header.set_xyzt_units("mm")
    return header


READERS: dict[str, Callable[[Path], Volume]] = {
    ".nii.gz": _read_nifti,
    ".nii": _read_nifti,
    ".nrrd": _read_with_simpleitk,
    ".mha": _read_with_simpleitk,
    ".mhd": _read_with_simpleitk,
    ".png": _read_with_pillow,
}
