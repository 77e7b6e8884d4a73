"""nnU-Net's raw data layout: dataset.json, imagesTr, labelsTr, and what else may stand beside."""

import re
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.layouts.description import declared_channels, declared_labels, read_description
from autoseg.dataset.layouts.naming import (
    components_of,
    group_channels,
    image_files,
    with_any_ending,
)
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import ENDINGS, count_channels
from autoseg.records import read_json

Folds = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def is_nnunet_raw(root: Path) -> bool:
    path = root / "dataset.json"
    return path.is_file() and ((root / "imagesTr").is_dir() or "dataset" in read_description(path))


def read_nnunet_raw(root: Path, problems: list[Problem]) -> Dataset:
    """Cases of imagesTr, or of the `dataset` mapping; scans of imagesTs are test cases."""
    path = root / "dataset.json"
    description = read_description(path)
    names = declared_channels(description, path)
    labels = declared_labels(description, path)
    ending = str(description.get("file_ending", ".nii.gz"))
    if ending not in ENDINGS:
        raise AutosegError(
            f"{path}: file_ending is {ending!r}, but must be one of {', '.join(ENDINGS)}."
        )
    if "dataset" in description:
        cases = _mapped_cases(root, description["dataset"], names, problems)
    else:
        cases = _cases(root, "Tr", ending, names, problems)
        _name_leftovers(root, cases, problems)
    return Dataset(
        root=root,
        layout="nnunet_raw",
        channel_names=names,
        labels=labels,
        cases=tuple(cases),
        test_cases=tuple(_cases(root, "Ts", ending, names, problems)),
        folds=_folds(root / "splits_final.json", {case.case_id for case in cases}),
    )


def _folds(path: Path, known: set[str]) -> Folds:
    return declared_folds(read_json(path), path, known) if path.is_file() else ()


def _cases(
    root: Path, part: str, ending: str, names: tuple[str, ...], problems: list[Problem]
) -> list[Case]:
    images = [p for p in image_files(root / f"images{part}") if p.name.endswith(ending)]
    groups, others = group_channels(images)
    problems += [
        Problem(
            kind="naming",
            case_id=None,
            file=str(path),
            what=f"is not named <case>_<4 digits>{ending}.",
            fix="Rename it.",
        )
        for path in others
    ]
    together = _one_file_each(groups, names)
    cases = []
    for case_id, channels in sorted(groups.items()):
        label = with_any_ending(root / f"labels{part}", case_id, ending)
        before = len(problems)
        if not together:
            problems += channel_problems(case_id, channels, names)
        if label is None and part == "Tr":
            expected = root / f"labels{part}" / f"{case_id}{ending}"
            problems.append(_without_label(case_id, expected))
        if len(problems) == before:
            sources = (
                components_of(channels[0], len(names))
                if together
                else tuple(ChannelSource(channels[index]) for index in sorted(channels))
            )
            cases.append(Case(case_id, sources, label, patient_id=case_id))
    return cases


def _without_label(case_id: str, expected: Path) -> Problem:
    return Problem(
        kind="missing_file",
        case_id=case_id,
        file=str(expected),
        what="its label file does not exist.",
        fix="Add it, or remove the image.",
    )


def _one_file_each(groups: dict[str, dict[int, Path]], names: tuple[str, ...]) -> bool:
    """Whether one file holds all channels of each case: colours, or a 4D scan."""
    if len(names) == 1 or any(channels.keys() != {0} for channels in groups.values()):
        return False
    try:
        return all(count_channels(groups[case][0]) == len(names) for case in sorted(groups)[:1])
    except AutosegError:  # it will be found unreadable
        return False


def channel_problems(
    case_id: str, channels: dict[int, Path], names: tuple[str, ...]
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


def _mapped_cases(
    root: Path, mapping: Any, names: tuple[str, ...], problems: list[Problem]
) -> list[Case]:
    """Cases of the `dataset` mapping, whose paths are relative to the dataset folder."""
    if not isinstance(mapping, dict):
        raise AutosegError(f"{root / 'dataset.json'}: dataset must map case names to their files.")
    cases = []
    for case_id, entry in mapping.items():
        try:
            images = [root / image for image in entry["images"]]
            label = root / entry["label"]
        except (KeyError, TypeError):
            raise AutosegError(
                f"{root / 'dataset.json'}: dataset entry {case_id!r} must have images (a list) and "
                "label, as paths relative to the dataset folder."
            ) from None
        together = len(images) == 1 and len(names) > 1
        if not together and len(images) != len(names):
            problems.append(
                Problem(
                    kind="missing_file",
                    case_id=case_id,
                    file=None,
                    what=f"lists {len(images)} images, but {len(names)} channels are declared.",
                    fix="List one image for each channel.",
                )
            )
            continue
        missing = [path for path in (*images, label) if not path.is_file()]
        problems += [listed_but_missing(case_id, path) for path in missing]
        if not missing:
            sources = (
                components_of(images[0], len(names))
                if together
                else tuple(ChannelSource(image) for image in images)
            )
            cases.append(Case(case_id, sources, label, patient_id=case_id))
    return sorted(cases, key=lambda case: case.case_id)


def listed_but_missing(case_id: str, path: Path) -> Problem:
    """The problem of a file that a list names, but that is not there."""
    return Problem(
        kind="missing_file",
        case_id=case_id,
        file=str(path),
        what="is listed, but does not exist.",
        fix="Add it, or remove it from the list.",
    )


def _name_leftovers(root: Path, cases: list[Case], problems: list[Problem]) -> None:
    used = {case.label for case in cases} | {Path(p.file) for p in problems if p.file}
    if any(p.case_id for p in problems):
        return  # labels of incomplete cases would be named too
    problems += [
        Problem(
            kind="unused_file",
            case_id=None,
            file=str(path),
            what="is a label without an image.",
            fix="Add its image, or remove it.",
        )
        for path in image_files(root / "labelsTr")
        if path not in used
    ]


def declared_folds(content: Any, path: Path, known: set[str]) -> Folds:
    """The folds that a file lists. Raises AutosegError when they are not of these cases."""
    try:
        folds = tuple((tuple(fold["train"]), tuple(fold["val"])) for fold in content)
    except (KeyError, TypeError):
        raise AutosegError(f'{path}: must be a list of {{"train": [...], "val": [...]}}.') from None
    unknown = {case for fold in folds for part in fold for case in part} - known
    if unknown:
        raise AutosegError(
            f"{path}: {', '.join(sorted(unknown)[:5])} are in its folds, but not in the dataset. "
            "Correct the file or remove it."
        )
    twice = {case for train, held_out in folds for case in set(train) & set(held_out)}
    if twice:
        raise AutosegError(
            f"{path}: {', '.join(sorted(twice)[:5])} are both trained on and held out in one fold. "
            "Correct the file or remove it."
        )
    return folds
