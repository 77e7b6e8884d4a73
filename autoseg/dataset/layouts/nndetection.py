"""nnDetection's layout: `raw_splitted/` with numbered objects, and a file of their classes each."""

from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import read_description
from autoseg.dataset.layouts.naming import channels_by_case, image_files, label_name
from autoseg.dataset.layouts.patients import stated_patients, with_patients
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError

RAW = "raw_splitted"


def is_nndetection(root: Path) -> bool:
    return (root / RAW / "imagesTr").is_dir() and (root / RAW / "labelsTr").is_dir()


def read_nndetection(root: Path, problems: list[Problem]) -> Dataset:
    """Each label numbers objects, whose classes stand in a JSON of its name; all are things.

    Raises AutosegError where the data set has no dataset.json of classes.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise AutosegError(
            f"{root}: has no dataset.json. Write what dataset.yaml says as JSON: "
            '{"labels": {"0": "nodule"}, "modalities": {"0": "CT"}}.'
        )
    description = read_description(path)
    names = _numbered_names(description, "labels", path)
    channels = _numbered_names(description, "modalities", path)
    cases = _cases(root / RAW, "Tr", len(channels), problems)
    labels = LabelScheme(
        values=tuple(range(len(names) + 1)), names=("background", *names), things=names
    )
    tests = _cases(root / RAW, "Ts", len(channels), problems)
    dataset = Dataset(root, "nndetection", channels, labels, cases, tests)
    return with_patients(dataset, stated_patients(description, path, problems), problems)


def _numbered_names(description: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """Names by number, from 0. Raises AutosegError where they are anything else."""
    stated = description.get(key)
    expected = [str(index) for index in range(len(stated))] if isinstance(stated, dict) else []
    if not isinstance(stated, dict) or not stated or sorted(stated) != sorted(expected):
        raise AutosegError(
            f'{path}: {key} must be names by number, from 0, such as {{"0": "nodule"}}.'
        )
    return tuple(str(stated[index]) for index in expected)


def _cases(root: Path, part: str, channels: int, problems: list[Problem]) -> tuple[Case, ...]:
    """The cases of `imagesTr` or `imagesTs` that are complete; what lacks files is a problem."""
    labels = {label_name(path): path for path in image_files(root / f"labels{part}")}
    groups, _ = channels_by_case(image_files(root / f"images{part}"))
    cases = []
    for case_id, files in groups.items():
        label, classes = labels.get(case_id), root / f"labels{part}" / f"{case_id}.json"
        missing = [f"channel {i:04d}" for i in range(channels) if i not in files]
        if part == "Tr" or label is not None:
            missing += [] if label is not None else ["label"]
            missing += [] if classes.is_file() else [f"file of classes {classes.name}"]
        if missing:
            problems.append(_incomplete(case_id, missing, root))
            continue
        sources = tuple(ChannelSource(files[index]) for index in range(channels))
        told = classes if label is not None else None
        cases.append(Case(case_id, sources, label, patient_id=case_id, object_classes=told))
    return tuple(cases)


def _incomplete(case_id: str, missing: list[str], root: Path) -> Problem:
    return Problem(
        kind="missing_file",
        case_id=case_id,
        file=str(root),
        what=f"has no {', no '.join(missing)}.",
        fix="Add what is missing, or remove the case.",
    )
