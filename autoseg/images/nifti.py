"""NIfTI (1 and 2) and FreeSurfer's MGH, compressed or not."""

import gzip
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHError, MGHHeader, header_dtype
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid, same_space
from autoseg.images.raw import Format, RawImage, Unit, nifti_header_of, place, reading

UNITS: dict[int, Unit] = {1: "m", 2: "mm", 3: "um"}  # NIfTI's codes
MM_PER_UNIT: dict[Unit, float] = {"mm": 1.0, "m": 1000.0, "um": 0.001, "unknown": 1.0}
ERRORS = (
    *(HeaderDataError, WrapStructError, MGHError),
    *(EOFError, KeyError, OSError, OverflowError, ValueError, zlib.error),
)
GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_LIMIT = 1032  # how many times smaller deflate can make anything
CHUNK_BYTES = 1024 * 1024
NIFTI_HEADERS = (nib.Nifti1Header, nib.Nifti2Header)
NIFTI_HEADER_BYTES = 540  # of the longer one


def read_nifti(path: Path) -> RawImage:
    """Read NIfTI; the fourth axis, or the fifth of a vector image, holds channels.

    A header in metres or microns gives a grid in mm, as in ITK; the header itself stays as it was.
    """
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        header = _nifti_header(stream)
        array = _read_voxels(path, stream, header)
        slope, intercept = header.get_slope_inter()
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= MM_PER_UNIT[stated_unit(header)]
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    return RawImage(array, place(path, array, affine), header, slope, intercept)


def nifti_channels(path: Path) -> int:
    """How many channels a NIfTI file's header promises."""
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        header = _nifti_header(stream)
        colours = header.get_data_dtype().names
        return 3 if colours else _array_shape(path, header.get_data_shape())[0]


def nifti_values(path: Path) -> int:
    """How many numbers a NIfTI file's header promises."""
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        return prod(_array_shape(path, _nifti_header(stream).get_data_shape()))


def read_mgh(path: Path) -> RawImage:
    """Read FreeSurfer's MGH or MGZ; its frames are channels."""
    with reading(path, "MGH", ERRORS), _opened(path) as stream:
        header = MGHHeader(stream.read(header_dtype.itemsize))  # its footer holds no geometry
        array = _read_voxels(path, stream, header)
        affine = np.array(header.get_affine(), dtype=np.float64)
    return RawImage(array, place(path, array, affine), nifti_header_of(affine))


def stated_unit(header: Any) -> Unit:
    """The unit of length that a NIfTI header states; unknown ones are taken for mm."""
    return UNITS.get(int(header["xyzt_units"]) & 0b111, "unknown")


def transforms_disagree(header: Any, tolerance_mm: float = 0.1) -> bool:
    """Whether a NIfTI header's qform and sform, both given, put a corner in different places.

    Readers choose differently between them: nibabel, and so autoseg, takes the sform; ITK takes it
    when it is orthonormal; others take the qform.
    """
    if int(header["qform_code"]) <= 0 or int(header["sform_code"]) <= 0:
        return False
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError):  # its numbers are no rotation
        return True
    x, y, z = (*header.get_data_shape(), 1, 1, 1)[:3]
    in_mm = np.diag([MM_PER_UNIT[stated_unit(header)]] * 3 + [1.0])
    placed = [Grid((z, y, x), in_mm @ affine) for affine in (qform, header.get_sform())]
    return not same_space(placed[0], placed[1], tolerance_mm)


def _opened(path: Path) -> BufferedIOBase:
    """A file's content, decompressed if it is gzip, whatever its name says."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    return gzip.open(path) if is_gzip else path.open("rb")


def _nifti_header(stream: BufferedIOBase) -> Any:
    start = stream.read(NIFTI_HEADER_BYTES)
    for kind in NIFTI_HEADERS:
        if kind.may_contain_header(start):
            stream.seek(0)
            header = kind.from_fileobj(stream)
            if header["magic"].item() == kind.pair_magic:
                raise ValueError("its voxels are in a .img file; save both as one file")
            return header
    raise ValueError("it does not begin with a NIfTI header")


def _array_shape(path: Path, file_shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The array shape (channel, z, y, x) of a file's shape (x, y, z, t, ...).

    Raises AutosegError when it is empty, or more than one axis after the third is longer than 1.
    """
    sizes = [int(size) for size in file_shape]
    sizes = [*sizes[:3], *(size for size in sizes[3:] if size != 1)]
    sizes += [1] * (4 - len(sizes))
    if len(sizes) > 4 or min(sizes) < 1:
        raise AutosegError(
            f"{path}: has shape {'x'.join(str(size) for size in file_shape)}, which is neither a "
            "3D scan nor a 4D one of several channels. Save one of these."
        )
    x, y, z, channel = sizes
    return channel, z, y, x


def _read_voxels(path: Path, stream: BufferedIOBase, header: Any) -> NDArray[Any]:
    """The stored voxels as [channel, z, y, x], in their own type; colours are channels."""
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind == "c":
        raise AutosegError(
            f"{path}: holds complex numbers. Save magnitude and phase as files of their own."
        )
    channel, z, y, x = _array_shape(path, header.get_data_shape())
    if dtype.names is None:
        voxels = _read_bytes(path, stream, header.get_data_offset(), channel * z * y * x, dtype)
        return voxels.reshape(channel, z, y, x)
    if channel > 1:
        raise AutosegError(f"{path}: holds several colour images. Save one 3D image per file.")
    voxels = _read_bytes(path, stream, header.get_data_offset(), z * y * x, dtype)
    colours = voxels.view(np.uint8).reshape(z, y, x, len(dtype.names))[..., :3]  # without alpha
    return np.moveaxis(colours, -1, 0)


def _read_bytes(
    path: Path, stream: BufferedIOBase, offset: int, count: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read numbers into an array of their own, in chunks: the peak is the array.

    Raises EOFError when there are too few, and gzip.BadGzipFile when a checksum is wrong.
    """
    total = count * dtype.itemsize
    if total > DEFLATE_LIMIT * path.stat().st_size:  # before asking for that much memory
        raise EOFError(f"its header promises {total} bytes of voxels")
    numbers = np.empty(count, dtype)
    target = numbers.view(np.uint8).data
    stream.seek(offset)
    filled = 0
    while filled < total:
        size = stream.readinto(target[filled : filled + CHUNK_BYTES])
        if not size:
            raise EOFError(f"it ends after {filled} of {total} bytes of voxels")
        filled += size
    while stream.read(CHUNK_BYTES):  # gzip keeps its checksum at the end
        pass
    return numbers


NIFTI = Format(
    "NIfTI",
    endings=(".nii.gz", ".nii"),
    read=read_nifti,
    count_channels=nifti_channels,
    count_values=nifti_values,
    stated_unit=stated_unit,
    transforms_disagree=transforms_disagree,
)
MGZ = Format("MGH", endings=(".mgz", ".mgh"), read=read_mgh)
