"""Scans to segment: which there are among files and folders, and which files belong together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.layouts.naming import group_channels, stem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.formats import ENDINGS, file_ending

PREAMBLE, DICOM = 128, b"DICM"


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans in the order of their names, and which cannot be read for want of a channel."""

    cases: Sequence[Case]
    problems: Sequence[str]


def list_scans(inputs: Sequence[Path], channel_count: int) -> Scans:
    """The scans among files and folders: `<case>_0000` files are grouped, others stand alone.

    Raises AutosegError when there is none that has the channels that the model needs, or two would
    have the same name.
    """
    files: dict[Path, list[Path]] = {}  # by folder, since channels of a scan lie together
    for path in inputs:
        if not path.exists():
            raise AutosegError(f"{path}: there is no such file or folder.")
        if path.is_file() and file_ending(path) is None:
            raise AutosegError(f"{path}: {_no_image([path])}")
        for file in path.iterdir() if path.is_dir() else [path]:
            files.setdefault(file.parent, []).append(file)
    problems: list[str] = []
    scans: list[Case] = []
    for folder_files in files.values():
        scans += _scans_of_folder(folder_files, channel_count, problems)
    if not scans:
        raise_if_any(problems, "Wrong channels")
        places = ", ".join(str(path) for path in inputs)
        raise AutosegError(f"{places}: {_no_image([f for some in files.values() for f in some])}")
    counts = Counter(case.case_id for case in scans)
    raise_if_any(
        [
            f"{case.case_id}: {case.files()[0]} would be written to the same mask as another scan "
            "of this name. Predict them into different folders."
            for case in scans
            if counts[case.case_id] > 1
        ],
        "Scans of equal names",
    )
    return Scans(sorted(scans, key=lambda case: case.case_id), problems)


def _needed(channel_count: int) -> str:
    return "0000 alone" if channel_count == 1 else f"0000 to {channel_count - 1:04d}"


def _no_image(files: Sequence[Path]) -> str:
    """What to tell of files that are no images."""
    if any(_is_dicom(file) for file in files):
        return "DICOM, which must be converted first, for example with dcm2niix."
    return f"no image that autoseg reads. Known endings: {', '.join(ENDINGS)}."


def _is_dicom(path: Path) -> bool:
    """Whether a file says so, after a preamble of any content (DICOM PS3.10, 7.1)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(PREAMBLE + len(DICOM))[PREAMBLE:] == DICOM


def _scans_of_folder(files: list[Path], channel_count: int, problems: list[str]) -> Iterator[Case]:
    groups, others = group_channels(files)
    for case_id, channels in groups.items():
        if 0 not in channels:  # four digits that are no channel number, such as a year
            others += channels.values()
        elif sorted(channels) != list(range(channel_count)):
            problems.append(
                f"{case_id}: has channels {', '.join(f'{c:04d}' for c in sorted(channels))}, but "
                f"the model needs {_needed(channel_count)}. Add or remove files."
            )
        else:
            sources = tuple(ChannelSource(channels[index]) for index in sorted(channels))
            yield Case(case_id, sources, None, case_id)
    for path in others:
        yield Case(stem(path), (ChannelSource(path, None),), None, stem(path))
