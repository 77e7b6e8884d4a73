"""Scans to segment: which there are among files and folders, and which files belong together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoseg.dataset import Case, ChannelSource
from autoseg.errors import AutosegError, raise_if_any
from autoseg.layouts.naming import group_channels, stem
from autoseg.volume import READERS


def list_scans(inputs: Sequence[Path], channel_count: int) -> list[Case]:
    """The scans among files and folders: `<case>_0000` files are grouped, others stand alone.

    Raises AutosegError when there is none, or a group has other channels than the model needs.
    """
    files: dict[Path, list[Path]] = {}  # by folder, since channels of a scan lie together
    for path in inputs:
        if not path.exists():
            raise AutosegError(f"{path}: there is no such file or folder.")
        for file in path.iterdir() if path.is_dir() else [path]:
            files.setdefault(file.parent, []).append(file)
    problems: list[str] = []
    scans: list[Case] = []
    for folder_files in files.values():
        scans += _scans_of_folder(folder_files, channel_count, problems)
    raise_if_any(problems, "Wrong channels")
    if not scans:
        places = ", ".join(str(path) for path in inputs)
        raise AutosegError(f"{places}: no images here. Known endings: {', '.join(READERS)}.")
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
    return sorted(scans, key=lambda case: case.case_id)


def _scans_of_folder(files: list[Path], channel_count: int, problems: list[str]) -> Iterator[Case]:
    groups, others = group_channels(files)
    for case_id, channels in groups.items():
        if 0 not in channels:  # four digits that are no channel number, such as a year
            others += channels.values()
        elif sorted(channels) != list(range(channel_count)):
            problems.append(
                f"{case_id}: has channels {', '.join(f'{c:04d}' for c in sorted(channels))}, but "
                f"the model needs {channel_count} (0000 to {channel_count - 1:04d}). Add or remove "
                "files."
            )
        else:
            sources = tuple(ChannelSource(channels[index]) for index in sorted(channels))
            yield Case(case_id, sources, None, case_id)
    for path in others:
        yield Case(stem(path), (ChannelSource(path, None),), None, stem(path))
