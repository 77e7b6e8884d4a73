"""Image files of every known format, read as their voxels are stored."""

from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.images.coco import COCO
from autoseg.images.dicom.format import DICOM
from autoseg.images.itk import METAIMAGE, NRRD
from autoseg.images.nifti import MGZ, NIFTI
from autoseg.images.pictures import PICTURES
from autoseg.images.raw import Format, RawImage
from autoseg.images.tiff import TIFF

FORMATS: tuple[Format, ...] = (NIFTI, MGZ, NRRD, METAIMAGE, TIFF, PICTURES, COCO, DICOM)
ENDINGS: tuple[str, ...] = tuple(ending for kind in FORMATS for ending in kind.endings)


def file_ending(path: Path) -> str | None:
    """The known ending of a file's name, or None: `scan.nii.gz` gives `.nii.gz`."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)


def format_of(path: Path) -> Format:
    """The format that a file's name promises. Raises AutosegError when its ending is unknown."""
    kind = _format_of(path)
    if kind is None:
        known = ", ".join(
            f"{kind.name} ({', '.join(kind.endings)})" for kind in FORMATS if kind.endings
        )
        raise AutosegError(f"{path}: unknown image format. Known are {known}.")
    return kind


def is_image(path: Path) -> bool:
    """Whether a path is of an image that can be read, by its name or else its content."""
    return _format_of(path) is not None


def read_raw(path: Path) -> RawImage:
    """Read a file by its ending. Raises AutosegError when it is absent, damaged or no image."""
    if path.is_dir():
        raise AutosegError(f"{path}: this is a folder, where an image file is expected.")
    kind = _format_of(path)
    if not (kind.file_of(path) if kind else path).exists():
        raise AutosegError(f"{path}: this file does not exist.")
    return format_of(path).read(path)


def count_channels(path: Path) -> int:
    """How many channels a file holds; where the header tells, no voxel is read."""
    count = format_of(path).count_channels
    if count is not None:
        return count(path)
    raw = read_raw(path)
    return int(raw.array.shape[0] if raw.palette is None else raw.palette.shape[1])


def count_values(path: Path) -> int:
    """How many numbers an image holds: by its header, or else guessed from the size of its files.

    Files that cannot be read hold nothing.
    """
    kind = _format_of(path)
    try:
        if kind is not None and kind.count_values is not None:
            return kind.count_values(path)
        return sum(file.stat().st_size for file in files_of(path))
    except (AutosegError, OSError):
        return 0


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that an image is in, itself first: whoever hashes or watches it needs them all.

    A header such as `.mhd` has its voxels in files beside it, a TIFF its spacing. Those that are
    missing are left out; reading the image says so.
    """
    kind = _format_of(path)
    own = path if kind is None else kind.file_of(path)
    beside = kind.side_files(path) if kind is not None and own.is_file() else ()
    return (own, *(file for file in beside if file.is_file()))


def _format_of(path: Path) -> Format | None:
    name = path.name.lower()
    by_name = next((kind for kind in FORMATS if name.endswith(kind.endings)), None)
    return by_name or next((kind for kind in FORMATS if kind.recognise(path)), None)
