"""NIfTI (1 and 2) and FreeSurfer's MGH, compressed or not."""

import gzip
import warnings
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from math import isfinite, isnan, prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHError, MGHHeader, header_dtype
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.nifti_header import stated_place
from autoseg.images.raw import (
    GZIP_MAGIC,
    Format,
    Oddity,
    RawImage,
    beyond,
    nifti_header_of,
    place,
    reading,
    refuse_promises,
)

ERRORS = (
    *(HeaderDataError, WrapStructError, MGHError),
    *(EOFError, KeyError, OSError, OverflowError, ValueError, zlib.error),
)
MOST_AXES = 7
NO_STREAM = "Not a gzipped file"
CHUNK_BYTES = 1024 * 1024
NIFTI_HEADERS = (nib.Nifti1Header, nib.Nifti2Header)
NIFTI_HEADER_BYTES = 540  # of the longer one


def read_nifti(path: Path) -> RawImage:
    """Read NIfTI; the fourth axis, or the fifth of a vector image, holds channels.

    The header stays as it was, with all that is odd in it.
    """
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        header, oddities = _nifti_header(stream)
        offset, shifted = _first_voxel(stream, header)
        array, surplus = _read_voxels(path, stream, header, offset)
        slope, intercept, scaling = _scaling(header)
        stated = stated_place(header)
    return RawImage(
        array,
        place(path, array, stated.affine_ras_mm),
        header,
        slope,
        intercept,
        is_placed=stated.is_stated,
        oddities=(*oddities, *shifted, *scaling, *stated.oddities, *beyond(surplus)),
    )


def nifti_channels(path: Path) -> int:
    """How many channels a NIfTI file's header promises."""
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        header, _ = _nifti_header(stream)
        colours = header.get_data_dtype().names
        return 3 if colours else _array_shape(path, header.get_data_shape())[0]


def nifti_values(path: Path) -> int:
    """How many numbers a NIfTI file's header promises."""
    with reading(path, "NIfTI", ERRORS), _opened(path) as stream:
        header, _ = _nifti_header(stream)
        return prod(_array_shape(path, header.get_data_shape()))


def read_mgh(path: Path) -> RawImage:
    """Read FreeSurfer's MGH or MGZ; its frames are channels."""
    with reading(path, "MGH", ERRORS), _opened(path) as stream:
        start = stream.read(header_dtype.itemsize)
        header = MGHHeader(start)  # its footer holds no geometry
        is_placed = int(np.frombuffer(start, header_dtype)["goodRASFlag"][0]) == 1
        array, _ = _read_voxels(path, stream, header, header.get_data_offset())  # tags follow
        affine = np.array(header.get_affine(), dtype=np.float64)
    what = "states no orientation; it is read as FreeSurfer does, coronal and 1 mm wide."
    fix = "Save it again from its source, with a matrix from voxels to RAS."
    return RawImage(
        array,
        place(path, array, affine),
        nifti_header_of(affine),
        is_placed=is_placed,
        oddities=() if is_placed else (Oddity("no_orientation", what, fix),),
    )


def _opened(path: Path) -> BufferedIOBase:
    """A file's content, decompressed if it is gzip, whatever its name says."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    return gzip.open(path) if is_gzip else path.open("rb")


def _nifti_header(stream: BufferedIOBase) -> tuple[Any, list[Oddity]]:
    """The header of a single file, as it is, with those of its extensions that can be read."""
    start = stream.read(NIFTI_HEADER_BYTES)
    kind = next((kind for kind in NIFTI_HEADERS if kind.may_contain_header(start)), None)
    if kind is None:
        raise ValueError("it does not begin with a NIfTI header")
    header, oddities = kind(start[: kind.sizeof_hdr], check=False), list[Oddity]()
    if header["magic"].item() == kind.pair_magic:
        raise ValueError("its voxels are in a .img file; save both as one file")
    if header["magic"].item() != kind.single_magic:
        raise ValueError(f"its magic number is {header['magic'].item()!r}")
    if not 1 <= header["dim"][0] <= MOST_AXES:
        raise ValueError(f"it states {header['dim'][0]} axes")
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of extensions, without their file's name
            header = kind.from_fileobj(stream, check=False)
    except (HeaderDataError, ValueError):
        what = "its extensions cannot be read; they are left out."
        oddities.append(Oddity("header", what, "Save it anew, if no other program needs them."))
    return header, oddities


def _first_voxel(stream: BufferedIOBase, header: Any) -> tuple[int, list[Oddity]]:
    """The byte that voxels begin at, which cannot be within the header, whatever that says."""
    stated = float(header["vox_offset"])
    if stated >= header.sizeof_hdr:
        return int(stated), []
    first = int(header.single_vox_offset)
    if not isfinite(stated):
        raise ValueError(f"its voxels begin at byte {stated}")
    what = f"says that its voxels begin at byte {stated:g}, within its header; they are read from "
    what += f"byte {first} on."
    return first, [Oddity("header", what, "Save it anew, with a vox_offset of its own size.")]


def _scaling(header: Any) -> tuple[float, float, list[Oddity]]:
    """Slope and intercept of stored values; a slope that is 0 or no number counts for nothing."""
    stated = float(header["scl_slope"])
    slope, intercept = header.get_slope_inter()
    if slope is not None:
        return float(slope), float(intercept), []
    if isfinite(stated) or isnan(stated):  # 0 and NaN are how files say that there is none
        return 1.0, 0.0, []
    what = f"its slope is {stated}; values are read as they are stored."
    return 1.0, 0.0, [Oddity("header", what, "Set scl_slope to 1, or to the true one.")]


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


def _read_voxels(
    path: Path, stream: BufferedIOBase, header: Any, offset: int
) -> tuple[NDArray[Any], int]:
    """The stored voxels as [channel, z, y, x], in their own type, and how many bytes are beyond.

    Colours are channels.
    """
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind == "c":
        raise AutosegError(
            f"{path}: holds complex numbers. Save magnitude and phase as files of their own."
        )
    if dtype.names is None and dtype.kind not in "iuf":
        raise ValueError("it states no type of numbers that voxels can have")
    channel, z, y, x = _array_shape(path, header.get_data_shape())
    if dtype.names is None:
        voxels, surplus = _read_bytes(path, stream, offset, channel * z * y * x, dtype)
        return voxels.reshape(channel, z, y, x), surplus
    if channel > 1:
        raise AutosegError(f"{path}: holds several colour images. Save one 3D image per file.")
    voxels, surplus = _read_bytes(path, stream, offset, z * y * x, dtype)
    colours = voxels.view(np.uint8).reshape(z, y, x, len(dtype.names))[..., :3]  # without alpha
    return np.moveaxis(colours, -1, 0), surplus


def _read_bytes(
    path: Path, stream: BufferedIOBase, offset: int, count: int, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    """Read numbers into an array of their own, in chunks, and count the bytes beyond.

    Raises EOFError when there are too few, and gzip.BadGzipFile when a checksum is wrong.
    """
    total = count * dtype.itemsize
    refuse_promises(total, path.stat().st_size)
    numbers = np.empty(count, dtype)
    target = numbers.view(np.uint8).data
    stream.seek(offset)
    filled = 0
    while filled < total:
        size = stream.readinto(target[filled : filled + CHUNK_BYTES])
        if not size:
            raise EOFError(f"it ends after {filled} of {total} bytes of voxels")
        filled += size
    return numbers, _count_rest(path, stream)


def _count_rest(path: Path, stream: BufferedIOBase) -> int:
    """How many bytes are left of a file, whose checksum, in gzip, is at the end."""
    count = 0
    try:
        while chunk := stream.read(CHUNK_BYTES):
            count += len(chunk)
    except gzip.BadGzipFile as error:
        if NO_STREAM not in str(error):  # but a wrong checksum
            raise
        count += 1  # or more: what follows the stream is none
    return count


NIFTI = Format(
    "NIfTI",
    endings=(".nii.gz", ".nii"),
    read=read_nifti,
    count_channels=nifti_channels,
    count_values=nifti_values,
)
MGZ = Format("MGH", endings=(".mgz", ".mgh"), read=read_mgh)
