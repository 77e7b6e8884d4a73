"""What file names say: which scan, and which channel."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from autoseg.dataset.dataset import ChannelSource
from autoseg.dataset.problems import Problem
from autoseg.images.formats import file_ending

SLICER_ENDING = ".seg.nrrd"  # as 3D Slicer calls segmentations; the file itself is NRRD
LEFT_BY_MACOS = "._"

T = TypeVar("T")


def stem(path: Path) -> str:
    """A file's name without its known ending."""
    ending = file_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def composed(name: str) -> str:
    """A name with each letter and its accent as one character, as some systems split them."""
    return unicodedata.normalize("NFC", name)


def image_name(path: Path) -> str:
    """The name that an image goes by: its file's without the ending."""
    return composed(stem(path))


def label_name(path: Path) -> str:
    """The name of the case that a label belongs to: its file's without the ending."""
    return composed(path.name.removesuffix(label_ending(path)))


def label_ending(path: Path) -> str:
    """The ending of a label's file as it is written; 3D Slicer's `.seg.nrrd` is one."""
    known = SLICER_ENDING if path.name.lower().endswith(SLICER_ENDING) else file_ending(path) or ""
    return path.name[len(path.name) - len(known) :]


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, sorted; hidden files and unknown endings are left out."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if file_ending(p) and not p.name.startswith("."))


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for the file system, or with a zero byte in it
        return False


def listed_file(folder: Path, name: str) -> Path:
    """The file that a list names, relative to a folder, however the list spells it.

    Separators may be those of Windows, and letters with accents composed or not.
    """
    spellings = [name, name.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, s) for s in spellings[:2] for form in ("NFC", "NFD")]
    return next((p for s in spellings if is_file(p := folder / s)), folder / name)


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


def channels_by_case(paths: Iterable[Path]) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """As `group_channels`, of names that may be spelt in different Unicode forms."""
    groups, others = group_channels(paths)
    merged: dict[str, dict[int, Path]] = {}
    for case_id, channels in groups.items():
        merged.setdefault(composed(case_id), {}).update(channels)
    return merged, others


def components_of(path: Path, count: int) -> tuple[ChannelSource, ...]:
    """The channels of one file that holds them all."""
    return tuple(ChannelSource(path, component) for component in range(count))


def first_of_each_name(
    things: Iterable[T],
    name_of: Callable[[T], str],
    file_of: Callable[[T], Path],
    problems: list[Problem],
    preferred: Callable[[T], bool] = lambda thing: False,
) -> dict[str, T]:
    """By name, one thing each; which of several is meant cannot be known, and is a problem.

    Where just one of them is preferred it is taken, and the others are only not used.
    """
    groups: dict[str, list[T]] = {}
    for thing in things:
        groups.setdefault(name_of(thing), []).append(thing)
    for name, group in groups.items():
        group.sort(key=lambda thing: not preferred(thing))
        certain = [preferred(thing) for thing in group[:2]] == [True, False]
        for other in group[1:]:
            what = f"has the same name as {_told_apart(file_of(group[0]), file_of(other))}."
            problems.append(
                Problem(
                    kind="unused_file" if certain else "naming",
                    case_id=name,
                    file=str(file_of(other)),
                    what=f"{what[:-1]}, and is not used." if certain else what,
                    fix="Remove it." if certain else "Remove or rename one of them.",
                )
            )
    return {name: group[0] for name, group in groups.items()}


def _told_apart(one: Path, other: Path) -> str:
    """How to call a file beside another one that has the same name in some way."""
    if one.parent != other.parent:
        return str(one)
    if composed(one.name) == composed(other.name):
        return f"{one.name}, but for the Unicode form of its letters"
    return one.name
