"""The layout of the Medical Segmentation Decathlon (Antonelli et al. 2022,
doi:10.1038/s41467-022-30695-9), and of nnU-Net v1, which lists files in the same way."""

from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.layouts.description import (
    declared_channels,
    declared_labels,
    read_description,
)
from autoseg.dataset.layouts.mapping import listed_but_missing
from autoseg.dataset.layouts.naming import (
    LEFT_BY_MACOS,
    components_of,
    image_name,
    is_file,
    listed_file,
)
from autoseg.dataset.layouts.patients import stated_patients, with_patients
from autoseg.dataset.layouts.regions import region_problems
from autoseg.dataset.layouts.tidying import case_count_problems, tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.formats import file_ending

Entry = tuple[str, str | None]


def is_msd(root: Path) -> bool:
    path = root / "dataset.json"
    if not path.is_file():
        return False
    description = read_description(path)
    return "training" in description and "file_ending" not in description


def read_msd(root: Path, problems: list[Problem]) -> Dataset:
    """Cases of the training list; channels lie in one 4D file, or in files `_0000`, `_0001`, …"""
    path = root / "dataset.json"
    description = tidy_description(path, problems, decathlon=True)
    names = declared_channels(description, path)
    labels = declared_labels(description, path)
    problems += region_problems(labels, path)
    training, tests = _entries(description, path, "training"), _entries(description, path, "test")
    problems += case_count_problems(description, path, len(training))
    dataset = Dataset(
        root=root,
        layout="msd",
        channel_names=names,
        labels=labels,
        cases=_cases(root, training, names, problems),
        test_cases=_cases(root, tests, names, problems),
    )
    return with_patients(dataset, stated_patients(description, path, problems), problems)


def _entries(description: dict[str, Any], path: Path, key: str) -> list[Entry]:
    """The images and labels of a list, without what macOS leaves behind.

    Raises AutosegError that names every entry which says no image, or no label to train on.
    """
    entries = description.get(key) or []
    if not isinstance(entries, list):
        raise AutosegError(f"{path}: {key} must be a list.")
    parsed = [_entry(entry) for entry in entries]
    trained = key == "training"
    raise_if_any(
        [
            f'{path}: the entry {entry} should be {{"image": "./imagesTr/a.nii.gz", "label": '
            '"./labelsTr/a.nii.gz"}.'
            for entry, found in zip(entries, parsed, strict=True)
            if found is None or (trained and found[1] is None)
        ],
        f"{path}: {key} cannot be used",
    )
    return [e for e in parsed if e and not Path(e[0]).name.startswith(LEFT_BY_MACOS)]


def _entry(entry: Any) -> Entry | None:
    """Image and label of a list's entry; test entries are the image alone."""
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, dict) and isinstance(entry.get("image"), str):
        label = entry.get("label")
        if label is None or isinstance(label, str):
            return entry["image"], label
    return None


def _cases(
    root: Path, entries: list[Entry], names: tuple[str, ...], problems: list[Problem]
) -> tuple[Case, ...]:
    cases = []
    for listed_image, listed_label in entries:
        channels = _channels(root, listed_image, len(names))
        label = listed_file(root, listed_label) if listed_label else None
        case_id = image_name(listed_file(root, listed_image))
        files = [*dict.fromkeys(source.path for source in channels), *([label] if label else [])]
        missing = [file for file in files if not is_file(file)]
        problems += [listed_but_missing(case_id, file) for file in missing]
        if not missing:
            cases.append(Case(case_id, channels, label, patient_id=case_id))
    return tuple(sorted(cases, key=lambda case: case.case_id))


def _channels(root: Path, listed: str, count: int) -> tuple[ChannelSource, ...]:
    """The file that is listed, or else its channels apart, as nnU-Net v1 keeps them."""
    image = listed_file(root, listed)
    if not is_file(image):
        ending = file_ending(image) or ""
        start = listed[: len(listed) - len(ending)]
        apart = [listed_file(root, f"{start}_{index:04d}{ending}") for index in range(count)]
        if is_file(apart[0]):
            return tuple(ChannelSource(file) for file in apart)
    return components_of(image, count)
