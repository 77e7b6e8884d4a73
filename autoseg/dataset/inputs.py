"""Scans to segment: which there are among files and folders, and which files belong together."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.layouts.naming import group_channels, image_files, stem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.geometry import same_space
from autoseg.images.formats import ENDINGS, count_channels, file_ending, read_raw

PREAMBLE, DICOM = 128, b"DICM"
NUMBERED = re.compile(r".+_\d{4}")


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans in the order of their names, which cannot be read for want of a channel, and what was
    assumed of the others."""

    cases: Sequence[Case]
    problems: Sequence[str]
    notes: Sequence[str] = ()


def list_scans(
    inputs: Sequence[Path], channel_count: int, trained_on: Collection[str] = ()
) -> Scans:
    """The scans among files and folders: `<case>_0000` files are grouped, others stand alone.

    Numbered files that each hold all channels of the model are scans of their own, as they are in
    training. Those of one channel may as well be channels: they are scans if they lie in different
    places, or cases that the model was `trained_on` are numbered so. Raises AutosegError when there
    is none that has the channels that the model needs, or two would have the same name.
    """
    files: dict[Path, list[Path]] = {}  # by folder, since channels of a scan lie together
    for path in inputs:
        if not path.exists():
            raise AutosegError(f"{path}: there is no such file or folder.")
        if path.is_file() and file_ending(path) is None:
            raise AutosegError(f"{path}: {_no_image([path])}")
        for file in path.iterdir() if path.is_dir() else [path]:
            beside = files.setdefault(file.parent.resolve(), [])
            if all(file.name != other.name for other in beside):  # named twice
                beside.append(file)
    problems: list[str] = []
    notes: list[str] = []
    scans: list[Case] = []
    numbered = any(NUMBERED.fullmatch(case_id) for case_id in trained_on)
    for folder_files in files.values():
        scans += _scans_of_folder(folder_files, channel_count, numbered, problems, notes)
    if not scans:
        raise_if_any(problems, "Wrong channels")
        places = ", ".join(str(path) for path in inputs)
        raise AutosegError(f"{places}: {_no_image([f for some in files.values() for f in some])}")
    counts = Counter(_one_form(case.case_id) for case in scans)
    raise_if_any(
        [
            f"{case.case_id}: {case.files()[0]} would be written to the same mask as another scan "
            "of this name. Predict them into different folders."
            for case in scans
            if counts[_one_form(case.case_id)] > 1
        ],
        "Scans of equal names",
    )
    return Scans(sorted(scans, key=lambda case: case.case_id), problems, notes)


def _one_form(name: str) -> str:
    """A name in one of the forms that Unicode has for it: some file systems know no other."""
    return unicodedata.normalize("NFC", name)


def _needed(channel_count: int) -> str:
    return "0000 alone" if channel_count == 1 else f"0000 to {channel_count - 1:04d}"


def _no_image(files: Sequence[Path]) -> str:
    """What to tell of files that are no images."""
    if any(_is_dicom(file) for file in files):
        return "DICOM, which must be converted first, for example with dcm2niix."
    counts = {folder: len(image_files(folder)) for folder in sorted(files)}
    if filled := [f"{folder} ({count} images)" for folder, count in counts.items() if count]:
        return f"no image here itself. Give the folder that holds the scans: {', '.join(filled)}."
    return f"no image that autoseg reads. Known endings: {', '.join(ENDINGS)}."


def _is_dicom(path: Path) -> bool:
    """Whether a file says so, after a preamble of any content (DICOM PS3.10, 7.1)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(PREAMBLE + len(DICOM))[PREAMBLE:] == DICOM


def _scans_of_folder(
    files: list[Path],
    channel_count: int,
    scans_are_numbered: bool,
    problems: list[str],
    notes: list[str],
) -> Iterator[Case]:
    groups, others = group_channels(files)
    years = [case_id for case_id, channels in groups.items() if 0 not in channels]
    others += [path for case_id in years for path in groups[case_id].values()]
    numbered = {case_id: groups[case_id] for case_id in groups if case_id not in years}
    for case_id, channels in numbered.items():
        paths = [channels[index] for index in sorted(channels)]
        complete = sorted(channels) == list(range(channel_count))
        held = 1 if complete and channel_count == 1 else _held(paths[0])
        if complete and (channel_count == 1 or held != channel_count):
            yield Case(case_id, tuple(ChannelSource(path) for path in paths), None, case_id)
        elif len(paths) == 1 and held == channel_count:
            yield Case(case_id, (ChannelSource(paths[0], None),), None, case_id)
        elif held == channel_count and (
            channel_count > 1 or scans_are_numbered or not _lie_alike(paths)
        ):
            others += paths
            notes.append(
                f"{case_id}_0000 and {len(paths) - 1} more: each holds all channels of the model, "
                "so they are taken as scans, and not as channels of one."
            )
        else:
            problem = (
                f"{case_id}: has channels {', '.join(f'{c:04d}' for c in sorted(channels))}, but "
                f"the model needs {_needed(channel_count)}. Add or remove files."
            )
            if len(paths) > channel_count:
                problem += " If they are scans, rename them, so that none ends in four digits."
            problems.append(problem)
    for path in others:
        yield Case(stem(path), (ChannelSource(path, None),), None, stem(path))


def _lie_alike(paths: Sequence[Path]) -> bool:
    """Whether the first of some files lie on one grid, as channels of one scan do."""
    try:
        first, second = (read_raw(path).grid for path in paths[:2])
    except AutosegError:
        return True
    return same_space(first, second)


def _held(path: Path) -> int | None:
    """How many channels a file holds, if it can be read; reading its scan says why not."""
    try:
        return count_channels(path)
    except AutosegError:
        return None
