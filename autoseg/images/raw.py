"""What every format brings, and what its reader gives: voxels as stored, and where they lie."""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid

FLAT = 1e-6  # volume of a voxel over that of a box with its edge lengths: below, it has none
CHUNK_BYTES = 32 * 1024  # deflate expands up to 1032 times, so to 33 MB at most
DEFLATE_LIMIT = 1032  # how many times smaller deflate can make anything
GZIP_MAGIC = b"\x1f\x8b"
EITHER_KIND = zlib.MAX_WBITS | 32  # zlib or gzip, as a stream's own header says


@dataclass(frozen=True, slots=True)
class Oddity:
    """What a file says that cannot be, or that readers understand differently, and what was done.

    `kind` is that of a problem of datasets.
    """

    kind: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Where a slice came from: a DICOM instance and, from 1, its frame."""

    sop_class: str
    sop_uid: str
    frame_number: int
    is_multi_frame: bool


@dataclass(frozen=True, slots=True)
class RawImage:
    """Voxels [channel, z, y, x] as their file stores them, on a grid.

    A measured value is `slope * stored + intercept`; with a palette [index, colour] it is the
    stored voxel's row of it. `is_placed` is false where the file could state where voxels lie, and
    does not. `sources` are what each slice along z came from, where a format keeps that.
    """

    array: NDArray[Any]
    grid: Grid
    nifti_header: Any
    slope: float = 1.0
    intercept: float = 0.0
    palette: NDArray[np.uint8] | None = None
    is_placed: bool = True
    oddities: tuple[Oddity, ...] = ()
    sources: tuple[FrameSource | None, ...] = ()

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Format:
    """All that is asked of a format of image files. A new one is a module that says this.

    `endings` are in lower case, the usual one first. `read` raises AutosegError when a file is
    damaged or no scan. `count_channels` and `count_values` are given where a header alone tells.
    `side_files` are where more of an image may be, whether they exist or not. `recognise` is given
    where content tells a format, whatever the name; `file_of` where a path may be more than that of
    a file, such as the second volume in one.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[Path], RawImage]
    count_channels: Callable[[Path], int] | None = None
    count_values: Callable[[Path], int] | None = None
    side_files: Callable[[Path], tuple[Path, ...]] = lambda path: ()
    recognise: Callable[[Path], bool] = lambda path: False
    file_of: Callable[[Path], Path] = lambda path: path


def place(path: Path, array: NDArray[Any], affine_ras_mm: NDArray[np.float64]) -> Grid:
    """The grid of an array [channel, z, y, x].

    Raises AutosegError when a voxel has no volume there, for example because a spacing is 0.
    """
    edges_mm = affine_ras_mm[:3, :3]  # one per column
    box_mm3 = np.linalg.norm(edges_mm, axis=0).prod()
    if not np.isfinite(affine_ras_mm).all() or abs(np.linalg.det(edges_mm)) <= FLAT * box_mm3:
        rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine_ras_mm[:3])
        raise AutosegError(
            f"{path}: its affine is singular ({rows}), so voxels have no place in space. Correct "
            "spacing and orientation in the header (in NIfTI its sform or qform)."
        )
    _, z, y, x = array.shape
    return Grid((z, y, x), affine_ras_mm)


def nifti_header_of(affine_ras_mm: NDArray[np.float64], axes: int = 3) -> Any:
    """A NIfTI-1 header with an affine as both qform and sform, in mm, of 2 or 3 spatial axes."""
    header = nib.Nifti1Image(np.zeros((1,) * axes, np.uint8), affine_ras_mm).header
    header.set_qform(affine_ras_mm, 1)
    header.set_sform(affine_ras_mm, 1)
    header.set_xyzt_units("mm")
    return header


@contextmanager
def reading(path: Path, kind: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what a library raises on a damaged file into an AutosegError."""
    try:
        yield
    except PermissionError:
        raise AutosegError(
            f"{path}: may not be read by this user. Give the permission (chmod +r), or copy it."
        ) from None
    except errors as error:
        raise AutosegError(
            f"{path}: cannot be read as {kind} ({_reason(error)}). The file may be damaged or cut "
            "short; copy it again from its source."
        ) from None


def _reason(error: Exception) -> str:
    """The last line of a message, which in ITK is the most telling, without its decoration."""
    if isinstance(error, KeyError):
        return f"unknown code {error}"
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Reason:")]  # a stale errno
    last = lines[-1] if lines else type(error).__name__
    return re.sub(r"^ITK ERROR: \w+\(\w+\): ", "", last).rstrip(".")


def inflated(file: BinaryIO) -> Iterator[bytes]:
    """What zlib or gzip streams hold, from a file's position on, in pieces.

    What follows the last of them and is no stream is left out. Raises zlib.error or EOFError when
    one is damaged, by its checksum too, or cut short.
    """
    inflater = zlib.decompressobj(EITHER_KIND)
    chunk = file.read(CHUNK_BYTES)
    while chunk:
        yield inflater.decompress(chunk)
        if not inflater.eof:
            chunk = file.read(CHUNK_BYTES)
            continue
        chunk = inflater.unused_data or file.read(CHUNK_BYTES)
        if not chunk.startswith(GZIP_MAGIC):
            return
        inflater = zlib.decompressobj(EITHER_KIND)
    raise EOFError("the compressed voxels end too early")


def refuse_promises(promised_bytes: int, held_bytes: int) -> None:
    """Raise EOFError when files cannot hold so much, before asking for that much memory."""
    if promised_bytes > DEFLATE_LIMIT * held_bytes:
        raise EOFError(f"its header promises {promised_bytes} bytes of voxels")


def fill(target: NDArray[Any], pieces: Iterable[bytes]) -> int:
    """Fill an array with bytes that come in pieces; the number that there are beyond.

    Raises EOFError when there are too few.
    """
    memory = target.reshape(-1).view(np.uint8).data
    filled = surplus = 0
    for piece in pieces:
        taken = piece[: len(memory) - filled]
        memory[filled : filled + len(taken)] = taken
        filled += len(taken)
        surplus += len(piece) - len(taken)
    if filled < len(memory):
        raise EOFError(f"it holds {filled} of {len(memory)} bytes of voxels")
    return surplus


def beyond(count: int) -> tuple[Oddity, ...]:
    """What to tell of bytes that a file holds beyond its voxels."""
    if not count:
        return ()
    what = f"holds {count} bytes more than the voxels that its header promises; they are left out."
    fix = "If slices are missing, export it again; else save it anew."
    return (Oddity("trailing_bytes", what, fix),)
