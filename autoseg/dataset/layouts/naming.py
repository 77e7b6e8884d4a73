"""What file names say: which scan, and which channel."""

import re
from collections.abc import Iterable
from pathlib import Path

from autoseg.dataset.dataset import ChannelSource
from autoseg.images.formats import ENDINGS, file_ending


def stem(path: Path) -> str:
    """A file's name without its known ending."""
    ending = file_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, sorted; hidden files and unknown endings are left out."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if file_ending(p) and not p.name.startswith("."))


def with_any_ending(folder: Path, name: str, first: str) -> Path | None:
    """The image of a name in a folder, whatever its ending; `first` is tried first."""
    endings = dict.fromkeys([first, *ENDINGS])
    return next((p for e in endings if (p := folder / f"{name}{e}").is_file()), None)


def group_channels(paths: Iterable[Path]) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """Group `<case>_<4 digits><ending>` images by case; the second part is what is named otherwise.

    Files of unknown endings and hidden files are left out of both.
    """
    groups: dict[str, dict[int, Path]] = {}
    others = []
    for path in sorted(paths):
        if file_ending(path) is None or path.name.startswith("."):
            continue
        match = re.fullmatch(r"(.+)_(\d{4})", stem(path))
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = path
        else:
            others.append(path)
    return groups, others


def components_of(path: Path, count: int) -> tuple[ChannelSource, ...]:
    """The channels of one file that holds them all."""
    return tuple(ChannelSource(path, component) for component in range(count))
