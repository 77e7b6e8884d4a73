"""The image files of one folder of nnU-Net's raw layout, by case and channel."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.layouts.folder_files import counted_endings
from autoseg.dataset.layouts.naming import (
    channels_by_case,
    first_of_each_name,
    image_files,
    image_name,
)
from autoseg.dataset.problems import Problem
from autoseg.images.formats import ENDINGS, file_ending

Channels = dict[str, dict[int, Path]]
GZIP = ".gz"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the description and the labels say of a folder: its ending, channels, case names.

    `ending` is None where none is declared. Wrong endings of scans that are only kept for testing
    are no errors.
    """

    ending: str | None
    channel_count: int
    label_names: set[str]
    trained: bool


@dataclass(frozen=True, slots=True)
class FolderImages:
    """Images by case and channel, their ending, and the cases of images that cannot be used."""

    by_case: Channels
    ending: str
    not_usable: set[str]


def images_of(folder: Path, expected: Expected, problems: list[Problem]) -> FolderImages:
    """The images of a folder that have its ending; what else is there is named."""
    files = image_files(folder)
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_ending[file_ending(file) or ""].append(file)
    ending = expected.ending or max(by_ending, key=lambda e: len(by_ending[e]), default=ENDINGS[0])
    if files and ending not in by_ending:
        if len(by_ending) > 1:
            problems.append(_none_declared(folder, files, ending))
            return FolderImages({}, ending, _case_names(files))
        problems.append(_another_taken(folder, files, ending))
        ending = next(iter(by_ending))
    right = first_of_each_name(by_ending[ending], image_name, lambda p: p, problems)
    strays = [file for file in files if file_ending(file) != ending]
    superfluous = [file for file in strays if image_name(file) in right]
    problems += [_superfluous(file, right[image_name(file)]) for file in superfluous]
    lost = [file for file in strays if image_name(file) not in right]
    problems += [_stray(file, ending, expected.trained) for file in lost]
    by_case, unnamed = _cases(folder, right, expected, problems)
    lost += unnamed
    return FolderImages(by_case, ending, _case_names(lost))


def _cases(
    folder: Path, files: Mapping[str, Path], expected: Expected, problems: list[Problem]
) -> tuple[Channels, list[Path]]:
    """Images by case and channel, and those whose names do not say which they are of."""
    groups, others = channels_by_case(files.values())
    numbered = any(channel > 0 for channels in groups.values() for channel in channels)
    without_numbers = not groups or (numbered and files.keys() <= expected.label_names)
    if files and expected.channel_count == 1 and without_numbers:
        example = next(iter(files.values()))
        problems.append(
            Problem(
                kind="description",
                case_id=None,
                file=str(folder),
                what=f"its images are not called <case>_0000, such as {example.name}. As one "
                "channel is declared, each is taken for a case of its own.",
                fix="For nnU-Net itself, rename each to <case>_0000 with its ending.",
            )
        )
        return {name: {0: file} for name, file in files.items()}, []
    problems += [_unnamed(file, expected) for file in others]
    return groups, others


def _case_names(files: list[Path]) -> set[str]:
    groups, others = channels_by_case(files)
    return {*groups, *(image_name(file) for file in others)}


def _unnamed(file: Path, expected: Expected) -> Problem:
    name = f"{image_name(file)}_0000{file_ending(file)}"
    many = "" if expected.channel_count == 1 else ", or by the number of its channel"
    return Problem(
        kind="naming",
        case_id=None,
        file=str(file),
        what="is not called <case>_<4 digits> as images are.",
        fix=f"Rename it to {name}{many}.",
    )


def _another_taken(folder: Path, files: list[Path], ending: str) -> Problem:
    found = file_ending(files[0])
    return Problem(
        kind="file_ending",
        case_id=None,
        file=str(folder),
        what=f"holds {counted_endings(files)}, but file_ending is {ending}. They are taken.",
        fix=f'Set "file_ending": "{found}" in dataset.json.',
    )


def _none_declared(folder: Path, files: list[Path], ending: str) -> Problem:
    found = max(
        (file_ending(file) or "" for file in files), key=[file_ending(f) for f in files].count
    )
    return Problem(
        kind="other_ending",
        case_id=None,
        file=str(folder),
        what=f"holds {counted_endings(files)}, but file_ending is {ending}.",
        fix=f'Save all in one format, and declare it in dataset.json, such as "file_ending": '
        f'"{found}".',
    )


def _superfluous(file: Path, used: Path) -> Problem:
    return Problem(
        kind="unused_file",
        case_id=None,
        file=str(file),
        what=f"is not used, as {used.name} is there.",
        fix="Remove it.",
    )


def _stray(file: Path, ending: str, trained: bool) -> Problem:
    packed = f" (gzip {file.name})" if f"{file_ending(file)}{GZIP}" == ending else ""
    return Problem(
        kind="other_ending" if trained else "unused_file",
        case_id=None,
        file=str(file),
        what=f"ends in {file_ending(file)}, but file_ending is {ending}; it is not used.",
        fix=f"Save it as {image_name(file)}{ending}{packed}, or remove it.",
    )
