"""nnU-Net's raw data layout: dataset.json, imagesTr, labelsTr, and what else may stand beside."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.layouts.description import (
    declared_channels,
    declared_labels,
    read_description,
)
from autoseg.dataset.layouts.folder_files import counted_endings, unknown_files, unused_labels
from autoseg.dataset.layouts.folds import declared_folds
from autoseg.dataset.layouts.json_files import read_written_json
from autoseg.dataset.layouts.mapping import mapped_cases
from autoseg.dataset.layouts.naming import (
    components_of,
    composed,
    first_of_each_name,
    image_files,
    label_name,
)
from autoseg.dataset.layouts.nnunet_images import Channels, Expected, FolderImages, images_of
from autoseg.dataset.layouts.pairing import near_pairs, near_problems
from autoseg.dataset.layouts.patients import stated_patients, with_patients
from autoseg.dataset.layouts.regions import region_problems
from autoseg.dataset.layouts.tidying import case_count_problems, tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS, count_channels, file_ending


@dataclass(frozen=True, slots=True)
class Part:
    """Cases of one pair of folders, and the names of all that are there, complete or not."""

    cases: tuple[Case, ...]
    found: set[str]


def is_nnunet_raw(root: Path) -> bool:
    path = root / "dataset.json"
    if not path.is_file():
        return False
    return (root / "imagesTr").is_dir() or isinstance(read_description(path).get("dataset"), dict)


def read_nnunet_raw(root: Path, problems: list[Problem]) -> Dataset:
    """Cases of imagesTr, or of the `dataset` mapping; scans of imagesTs are test cases."""
    path = root / "dataset.json"
    description = tidy_description(path, problems)
    names = declared_channels(description, path)
    labels = declared_labels(description, path)
    problems += region_problems(labels, path)
    ending = _declared_ending(description, root)
    if "dataset" in description:
        mapped = mapped_cases(root, description["dataset"], names, problems)
        trained = Part(tuple(mapped), set(map(composed, description["dataset"])))
    else:
        trained = _part(root, "Tr", ending, names, problems)
        problems += case_count_problems(description, path, len(trained.found))
    tests = _part(root, "Ts", ending, names, problems)
    dataset = Dataset(
        root=root,
        layout="nnunet_raw",
        channel_names=names,
        labels=labels,
        cases=trained.cases,
        test_cases=tests.cases,
        folds=_folds(root / "splits_final.json", trained, problems),
    )
    return with_patients(dataset, stated_patients(description, path, problems), problems)


def _folds(path: Path, part: Part, problems: list[Problem]) -> Any:
    if not path.is_file():
        return ()
    usable = {case.case_id for case in part.cases}
    return declared_folds(read_written_json(path), path, part.found, usable, problems)


def _declared_ending(description: Mapping[str, Any], root: Path) -> str | None:
    """The ending that is declared, in small letters and with its dot; None where there is none."""
    if "file_ending" not in description:
        return None
    declared = description["file_ending"]
    ending = declared.lower().strip() if isinstance(declared, str) else ""
    ending = ending if ending.startswith(".") else f".{ending}"
    if ending in ENDINGS:
        return ending
    files = image_files(root / "imagesTr")
    there = f" imagesTr holds {counted_endings(files)}." if files else ""
    raise AutosegError(
        f"{root / 'dataset.json'}: file_ending is {declared!r}, but must be one of "
        f"{', '.join(ENDINGS)}.{there}"
    )


def _part(
    root: Path, part: str, ending: str | None, names: tuple[str, ...], problems: list[Problem]
) -> Part:
    """The cases of `images<part>` with their labels in `labels<part>`."""
    image_folder, label_folder = root / f"images{part}", root / f"labels{part}"
    label_files = image_files(label_folder)
    expected = Expected(ending, len(names), set(map(label_name, label_files)), part == "Tr")
    images = images_of(image_folder, expected, problems)
    labels = first_of_each_name(
        label_files,
        label_name,
        lambda file: file,
        problems,
        preferred=lambda file: file_ending(file) == images.ending,
    )
    found = {*images.by_case, *images.not_usable}
    without = {name: file for name, file in labels.items() if name not in found}
    near = near_pairs({case for case in found if case not in labels}, without)
    problems += near_problems(near) if part == "Tr" else []
    nearly = {pair.file for pair in near}
    left = [file for file in without.values() if part != "Tr" or file not in nearly]
    problems += unused_labels(label_folder, left, found)
    problems += [*unknown_files(image_folder), *unknown_files(label_folder)]
    if part == "Tr":
        told = {*labels, *(pair.case_id for pair in near)}
        problems += [
            _without_label(case_id, label_folder / f"{case_id}{images.ending}")
            for case_id in sorted(images.by_case.keys() - told)
        ]
    cases = _cases(images, labels, names, problems)
    return Part(tuple(case for case in cases if case.label or part != "Tr"), found)


def _cases(
    images: FolderImages,
    labels: Mapping[str, Path],
    names: tuple[str, ...],
    problems: list[Problem],
) -> list[Case]:
    """The cases that have all channels, with their labels where there are any."""
    together = _one_file_each(images.by_case, names)
    cases = []
    for case_id, channels in sorted(images.by_case.items()):
        wrong = [] if together else channel_problems(case_id, channels, names)
        problems += wrong
        if not wrong:
            sources = (
                components_of(channels[0], len(names))
                if together
                else tuple(ChannelSource(channels[index]) for index in sorted(channels))
            )
            cases.append(Case(case_id, sources, labels.get(case_id), patient_id=case_id))
    return cases


def _without_label(case_id: str, expected: Path) -> Problem:
    return Problem(
        kind="missing_file",
        case_id=case_id,
        file=str(expected),
        what="its label file does not exist.",
        fix="Add it, or remove the image.",
    )


def _one_file_each(groups: Channels, names: tuple[str, ...]) -> bool:
    """Whether one file holds all channels of each case: colours, or a 4D scan."""
    if len(names) == 1 or any(channels.keys() != {0} for channels in groups.values()):
        return False
    try:
        return all(count_channels(groups[case][0]) == len(names) for case in sorted(groups)[:1])
    except AutosegError:  # it will be found unreadable
        return False


def channel_problems(
    case_id: str, channels: Mapping[int, Path], names: tuple[str, ...]
) -> list[Problem]:
    """What is wrong with the channel files of a case, by number."""
    problems = []
    for channel in sorted(set(range(len(names))) - channels.keys()):
        example = next(iter(channels.values()))
        expected = re.sub(r"_\d{4}(\.[^/]*)$", rf"_{channel:04d}\1", str(example))
        problems.append(
            Problem(
                kind="missing_file",
                case_id=case_id,
                file=expected,
                what=f"channel {channel} ({names[channel]}) is missing.",
                fix="Add it, or remove the case.",
            )
        )
    for channel in sorted(channels.keys() - set(range(len(names)))):
        problems.append(
            Problem(
                kind="naming",
                case_id=case_id,
                file=str(channels[channel]),
                what=f"is channel {channel}, but dataset.json declares {len(names)}.",
                fix="Add it to channel_names or remove the file.",
            )
        )
    return problems
