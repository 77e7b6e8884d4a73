"""Folders as they lie on a disk: which may hold DICOM, and what in them is of another kind."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.images.dicom.opening import is_dicom

OTHER_ENDINGS = (".gz", ".nii", ".png", ".json", ".csv", ".txt", ".npz", ".mha", ".nrrd", ".tif")
ENDINGS_SHOWN = 8
LONGEST_ENDING = 8  # what is longer is part of a name


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """A folder with its files, and whether any may be DICOM; `why_not` where it is not read."""

    path: Path
    files: tuple[Path, ...] = ()
    why_not: str | None = None

    @property
    def may_be_dicom(self) -> list[Path]:
        return [
            file
            for file in self.files
            if not file.name.startswith(".") and not file.name.lower().endswith(OTHER_ENDINGS)
        ]


def walk(root: Path) -> Iterator[FoundFolder]:
    """A folder and all below it, but those whose names begin with a dot."""
    failed: list[OSError] = []
    for folder, subfolders, files in os.walk(root, onerror=failed.append):
        here = Path(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield FoundFolder(here, tuple(here / name for name in sorted(files)))
        for name in subfolders:
            if (here / name).is_symlink():
                why = "a link to a folder, which is not followed: give that folder itself"
                yield FoundFolder(here / name, why_not=why)
    for error in failed:
        why = f"a folder that cannot be opened ({error.strerror}): ask for the right to read it"
        yield FoundFolder(Path(error.filename), why_not=why)


def holds_dicom(root: Path) -> bool:
    """Whether a DICOM file lies anywhere in a folder."""
    return any(is_dicom(file) for folder in walk(root) for file in folder.may_be_dicom)


def kinds_of(files: Sequence[Path]) -> str:
    """The endings of files, each once; their names may be persons'."""
    endings = sorted({file.suffix.lower() for file in files if _is_ending(file.suffix)})
    if any(not _is_ending(file.suffix) for file in files):
        endings.append("none")
    shown = ", ".join(endings[:ENDINGS_SHOWN])
    return shown + (" and more" if len(endings) > ENDINGS_SHOWN else "")


def _is_ending(suffix: str) -> bool:
    return 1 < len(suffix) <= LONGEST_ENDING and not suffix[1:].isdecimal()
