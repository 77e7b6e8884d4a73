"""Image files of every known format, read as their voxels are stored."""

from collections.abc import Callable
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.images.itk import read_with_simpleitk
from autoseg.images.nifti import (
    Unit,
    nifti_channels,
    nifti_values,
    read_mgh,
    read_nifti,
    stated_unit,
    transforms_disagree,
)
from autoseg.images.pictures import read_picture
from autoseg.images.raw import RawImage, nifti_header_of
from autoseg.images.text_headers import data_files
from autoseg.images.tiff import read_tiff, side_files

__all__ = [
    "READERS",
    "RawImage",
    "Unit",
    "count_channels",
    "count_values",
    "file_ending",
    "files_of",
    "nifti_header_of",
    "read_raw",
    "stated_unit",
    "transforms_disagree",
]

READERS: dict[str, Callable[[Path], RawImage]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".mgz": read_mgh,
    ".mgh": read_mgh,
    ".nrrd": read_with_simpleitk,
    ".mha": read_with_simpleitk,
    ".mhd": read_with_simpleitk,
    ".png": read_picture,
    ".bmp": read_picture,
    ".jpg": read_picture,
    ".jpeg": read_picture,
    ".tif": read_tiff,
    ".tiff": read_tiff,
}


def file_ending(path: Path) -> str | None:
    """The known ending of a file's name, or None: `scan.nii.gz` gives `.nii.gz`."""
    return next((ending for ending in READERS if path.name.lower().endswith(ending)), None)


def read_raw(path: Path) -> RawImage:
    """Read a file by its ending. Raises AutosegError when it is absent, damaged or no image."""
    if path.is_dir():
        raise AutosegError(f"{path}: this is a folder, where an image file is expected.")
    if not path.exists():
        raise AutosegError(f"{path}: this file does not exist.")
    ending = file_ending(path)
    if ending is None:
        raise AutosegError(f"{path}: unknown image format. Known endings: {', '.join(READERS)}.")
    return READERS[ending](path)


def count_channels(path: Path) -> int:
    """How many channels a file holds; of NIfTI only the header is read."""
    if file_ending(path) in (".nii.gz", ".nii"):
        return nifti_channels(path)
    raw = read_raw(path)
    return int(raw.array.shape[0] if raw.palette is None else raw.palette.shape[1])


def count_values(path: Path) -> int:
    """How many numbers an image holds: by its header for NIfTI, else guessed from the file's size.

    Files that cannot be read hold nothing.
    """
    try:
        if file_ending(path) in (".nii.gz", ".nii"):
            return nifti_values(path)
        return path.stat().st_size
    except (AutosegError, OSError):
        return 0


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that an image is in, itself first: whoever hashes or watches it needs them all.

    A header such as `.mhd` has its voxels in files beside it, a TIFF its spacing. Those that are
    missing are left out; reading the image says so.
    """
    beside: tuple[Path, ...] = ()
    if file_ending(path) in (".mhd", ".mha", ".nrrd") and path.is_file():
        beside = data_files(path)
    elif file_ending(path) in (".tif", ".tiff"):
        beside = side_files(path)
    return (path, *(file for file in beside if file.is_file()))
