"""The layout of the Medical Segmentation Decathlon (Antonelli et al. 2022,
doi:10.1038/s41467-022-30695-9), and of nnU-Net v1, which lists files in the same way."""

from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.layouts.description import (
    declared_channels,
    declared_labels,
    inverted_labels,
    read_description,
)
from autoseg.dataset.layouts.naming import components_of, stem
from autoseg.dataset.layouts.nnunet_raw import listed_but_missing
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import file_ending


def is_msd(root: Path) -> bool:
    path = root / "dataset.json"
    if not path.is_file():
        return False
    description = read_description(path)
    return "training" in description and "file_ending" not in description


def read_msd(root: Path, problems: list[Problem]) -> Dataset:
    """Cases of the training list; channels lie in one 4D file, or in files `_0000`, `_0001`, …"""
    path = root / "dataset.json"
    description = inverted_labels(read_description(path), path)
    names = declared_channels(description, path)
    training = [_entry(entry, path) for entry in _list(description, "training", path)]
    tests = [_entry(entry, path) for entry in _list(description, "test", path)]
    return Dataset(
        root=root,
        layout="msd",
        channel_names=names,
        labels=declared_labels(description, path),
        cases=_cases(root, training, names, problems),
        test_cases=_cases(root, tests, names, problems),
    )


def _list(description: dict[str, Any], key: str, path: Path) -> list[Any]:
    entries = description.get(key, [])
    if not isinstance(entries, list):
        raise AutosegError(f"{path}: {key} must be a list.")
    return entries


def _entry(entry: Any, path: Path) -> tuple[str, str | None]:
    """Image and label of a list's entry; test entries are the image alone."""
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, dict) and isinstance(entry.get("image"), str):
        label = entry.get("label")
        if label is None or isinstance(label, str):
            return entry["image"], label
    raise AutosegError(
        f'{path}: the entry {entry} should be {{"image": "./imagesTr/a.nii.gz", "label": '
        '"./labelsTr/a.nii.gz"}.'
    )


def _cases(
    root: Path,
    entries: list[tuple[str, str | None]],
    names: tuple[str, ...],
    problems: list[Problem],
) -> tuple[Case, ...]:
    cases = []
    for image_name, label_name in entries:
        image = root / image_name
        label = root / label_name if label_name else None
        if image.name.startswith("._"):  # left behind by macOS
            continue
        case_id = stem(image)
        channels = components_of(image, len(names))
        if not image.is_file():
            apart = [
                image.with_name(f"{case_id}_{index:04d}{file_ending(image)}")
                for index in range(len(names))
            ]
            if apart[0].is_file():
                channels = tuple(ChannelSource(file) for file in apart)
        files = [*dict.fromkeys(source.path for source in channels), *([label] if label else [])]
        missing = [file for file in files if not file.is_file()]
        problems += [listed_but_missing(case_id, file) for file in missing]
        if not missing:
            cases.append(Case(case_id, channels, label, patient_id=case_id))
    return tuple(sorted(cases, key=lambda case: case.case_id))
