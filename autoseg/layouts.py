"""Ways in which datasets lie on disk: recognised by what is there, never asked for."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset import (
    MAX_CLASSES,
    Case,
    ChannelSource,
    Dataset,
    LabelScheme,
    LayoutName,
)
from autoseg.errors import AutosegError, raise_if_any
from autoseg.records import read_json
from autoseg.volume import READERS, file_ending, read_image, read_labels

MANY_LABELS = 64  # a plain dataset with more values than this most likely numbers its objects


@dataclass(frozen=True, slots=True)
class Layout:
    """How to recognise a layout, how to read it, and how to describe it to a user."""

    recognise: Callable[[Path], bool]
    read: Callable[[Path, LabelScheme | None], Dataset]
    description: str


def open_dataset(root: Path, labels: LabelScheme | None = None) -> Dataset:
    """Recognise a dataset's layout and list its training cases.

    No image is opened, unless the layout does not declare its labels; `labels`, where known from an
    earlier look, spare that. Raises AutosegError when the folder is absent or empty, its layout is
    none that is supported, or files are missing; every problem is listed.
    """
    if not root.is_dir():
        raise AutosegError(f"{root}: there is no such dataset folder. Give the path to one.")
    supported = "\n".join(f"  - {layout.description}" for layout in LAYOUTS.values())
    if not any(root.iterdir()):
        raise AutosegError(f"{root}: this folder is empty. Supported layouts:\n{supported}")
    for layout in LAYOUTS.values():
        if layout.recognise(root):
            return layout.read(root, labels)
    raise AutosegError(
        f"{root}: no supported dataset layout is recognised here. Supported layouts:\n{supported}"
    )


def group_channels(paths: Iterable[Path]) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """Group `<case>_<4 digits><ending>` images by case; the second part is what is named otherwise.

    Files of unknown endings and hidden files are left out of both.
    """
    groups: dict[str, dict[int, Path]] = {}
    others = []
    for path in sorted(paths):
        ending = file_ending(path)
        if ending is None or path.name.startswith("."):
            continue
        match = re.fullmatch(r"(.+)_(\d{4})", path.name[: -len(ending)])
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = path
        else:
            others.append(path)
    return groups, others


def _is_nnunet_raw(root: Path) -> bool:
    return (root / "dataset.json").is_file() and (root / "imagesTr").is_dir()


def _read_nnunet_raw(root: Path, labels: LabelScheme | None) -> Dataset:
    description_path = root / "dataset.json"
    description = _description(root)
    problems: list[str] = []
    channel_names = _channel_names(description, "channel_names", description_path, problems)
    scheme = _label_scheme(description.get("labels"), description_path, problems)
    ending = str(description.get("file_ending"))
    if ending not in READERS:
        problems.append(
            f"{description_path}: file_ending is {ending!r}, but must be one of "
            f"{', '.join(READERS)}."
        )
    raise_if_any(problems, f"{description_path} cannot be used")
    assert scheme is not None

    groups, others = group_channels(
        path for path in (root / "imagesTr").iterdir() if path.name.endswith(ending)
    )
    problems += [f"{path}: not named <case>_<4 digits>{ending}. Rename it." for path in others]
    cases = []
    for case_id, channels in sorted(groups.items()):
        if channels.keys() == {0} and ending == ".png":  # colours in one file
            channels = dict.fromkeys(range(len(channel_names)), channels[0])
        _check_channels(case_id, channels, channel_names, problems)
        label = root / "labelsTr" / f"{case_id}{ending}"
        if not label.is_file():
            problems.append(f"{case_id}: its label file {label} does not exist.")
        together = len(set(channels.values())) < len(channels)
        sources = tuple(
            ChannelSource(channels[index], index if together else 0) for index in sorted(channels)
        )
        cases.append(Case(case_id, sources, label, patient_id=case_id))
    if not cases and not problems:
        problems.append(f"{root / 'imagesTr'}: there is no image named <case>_0000{ending} here.")
    raise_if_any(problems, f"{root}: the dataset is incomplete")
    return Dataset(root, "nnunet_raw", channel_names, scheme, tuple(cases))


def _check_channels(
    case_id: str, channels: dict[int, Path], names: tuple[str, ...], problems: list[str]
) -> None:
    for channel in sorted(set(range(len(names))) - channels.keys()):
        example = next(iter(channels.values()))
        expected = re.sub(r"_\d{4}(\.[^/]*)$", rf"_{channel:04d}\1", str(example))
        problems.append(
            f"{case_id}: channel {channel} ({names[channel]}) is missing; expected {expected}."
        )
    for channel in sorted(channels.keys() - set(range(len(names)))):
        problems.append(
            f"{case_id}: {channels[channel]} is channel {channel}, but dataset.json declares "
            f"{len(names)}. Add it to channel_names or remove the file."
        )


def _is_msd(root: Path) -> bool:
    if not (root / "dataset.json").is_file():
        return False
    description = _description(root)
    return "training" in description and "file_ending" not in description


def _read_msd(root: Path, labels: LabelScheme | None) -> Dataset:
    """Medical Segmentation Decathlon (Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9)."""
    path = root / "dataset.json"
    description = _description(root)
    problems: list[str] = []
    channel_names = _channel_names(description, "modality", path, problems)
    declared = description.get("labels")
    inverted = (
        {name: int(value) for value, name in declared.items() if str(value).isdecimal()}
        if isinstance(declared, dict)
        else None
    )
    scheme = _label_scheme(inverted, path, problems)
    cases = []
    for entry in description["training"]:
        image, label = root / entry["image"], root / entry["label"]
        if image.name.startswith("._"):
            continue
        case_id = image.name.removesuffix(file_ending(image) or "")
        problems += [
            f"{case_id}: {file} is listed in {path}, but does not exist."
            for file in (image, label)
            if not file.is_file()
        ]
        channels = tuple(ChannelSource(image, index) for index in range(len(channel_names)))
        cases.append(Case(case_id, channels, label, patient_id=case_id))
    if not cases and not problems:
        problems.append(f"{path}: its training list is empty.")
    raise_if_any(problems, f"{root}: the dataset is incomplete")
    assert scheme is not None
    cases.sort(key=lambda case: case.case_id)
    return Dataset(root, "msd", channel_names, scheme, tuple(cases))


def _is_plain(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "labels").is_dir()


def _read_plain(root: Path, labels: LabelScheme | None) -> Dataset:
    """`images/` and `labels/` with equal names; channels and labels are what the files hold."""
    problems: list[str] = []
    label_files = {
        _stem(path): path
        for path in sorted((root / "labels").iterdir())
        if file_ending(path) and not path.name.startswith(".")
    }
    groups, others = group_channels((root / "images").iterdir())
    images: dict[str, tuple[Path, ...]] = {_stem(path): (path,) for path in others}
    for case_id, channels in groups.items():
        if case_id in label_files:
            images[case_id] = tuple(channels[index] for index in sorted(channels))
        else:  # four digits that number scans, not channels
            images |= {_stem(path): (path,) for path in channels.values()}
    for case_id in sorted(images.keys() - label_files.keys()):
        problems.append(f"{case_id}: there is no label of this name in {root / 'labels'}.")
    for case_id in sorted(label_files.keys() - images.keys()):
        problems.append(f"{case_id}: there is no image of this name in {root / 'images'}.")
    if not images and not problems:
        problems.append(f"{root / 'images'}: no images here. Known: {', '.join(READERS)}.")
    raise_if_any(problems, f"{root}: images and labels do not match")
    first = images[min(images)]
    raise_if_any(
        [
            f"{case_id}: has {len(paths)} channel files, but {min(images)} has {len(first)}. Every "
            "scan must have the same channels."
            for case_id, paths in sorted(images.items())
            if len(paths) != len(first)
        ],
        f"{root}: scans differ in their channels",
    )
    counts = [read_image(path).array.shape[0] for path in first]
    channel_names = tuple(f"channel_{index}" for index in range(sum(counts)))
    cases = []
    for case_id, paths in sorted(images.items()):
        sources = tuple(
            ChannelSource(path, component)
            for path, count in zip(paths, counts, strict=True)
            for component in range(count)
        )
        cases.append(Case(case_id, sources, label_files[case_id], patient_id=case_id))
    scheme = labels or _labels_found(label_files)
    return Dataset(root, "plain", channel_names, scheme, tuple(cases))


def _labels_found(files: dict[str, Path]) -> LabelScheme:
    found: set[int] = {0}
    for path in files.values():
        found |= {int(value) for value in np.unique(read_labels(path).array)}
        if min(found) < 0 or max(found) >= 2**16:
            raise AutosegError(
                f"{path}: holds label values {min(found)} to {max(found)}, but labels are whole "
                "numbers from 0 (background) to 65535. Correct the file."
            )
        if len(found) > MANY_LABELS:
            raise AutosegError(
                f"The label files hold more than {MANY_LABELS} different values. Are these "
                "instances, numbered one by one? Then save the class of each voxel instead, for "
                "example 1 for every object."
            )
    values = tuple(sorted(found))
    return LabelScheme(
        values=values, names=("background", *(f"label_{value}" for value in values[1:]))
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(file_ending(path) or "")


def _description(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    content = read_json(path)
    if not isinstance(content, dict):
        raise AutosegError(f"{path}: must hold an object, with channel_names and labels in it.")
    return content


def _channel_names(
    description: dict[str, Any], key: str, path: Path, problems: list[str]
) -> tuple[str, ...]:
    channels = description.get(key)
    if not isinstance(channels, dict) or not channels:
        problems.append(f'{path}: {key} is missing, for example {{"0": "CT"}}.')
        return ()
    expected = [str(index) for index in range(len(channels))]
    if sorted(channels) != sorted(expected):
        problems.append(
            f"{path}: {key} has keys {', '.join(channels)}, expected {', '.join(expected)}."
        )
        return ()
    return tuple(str(channels[index]) for index in expected)


def _label_scheme(labels: Any, path: Path, problems: list[str]) -> LabelScheme | None:
    if not isinstance(labels, dict) or not labels:
        problems.append(f'{path}: labels is missing, for example {{"background": 0, "tumour": 1}}.')
        return None
    before = len(problems)
    for name, value in labels.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**16:
            problems.append(
                f"{path}: label {name!r} has value {value!r}. Only whole numbers from 0 to 65535 "
                "are supported; regions (lists of numbers) are not yet."
            )
    if "ignore" in labels:
        problems.append(f"{path}: the label 'ignore' is not supported yet. Remove it.")
    if len(problems) > before:
        return None
    by_value = sorted(labels.items(), key=lambda item: int(item[1]))
    values = tuple(int(value) for _, value in by_value)
    if values[0] != 0 or len(set(values)) != len(values) or len(values) < 2:
        problems.append(
            f"{path}: labels need a background of value 0 and at least one other class, all values "
            f"different; found {', '.join(f'{name}={value}' for name, value in by_value)}."
        )
        return None
    if len(values) > MAX_CLASSES:
        problems.append(f"{path}: {len(values)} labels are declared, {MAX_CLASSES} at most can be.")
        return None
    return LabelScheme(values=values, names=tuple(name for name, _ in by_value))


LAYOUTS: dict[LayoutName, Layout] = {
    "msd": Layout(
        _is_msd,
        _read_msd,
        "Medical Segmentation Decathlon: dataset.json with modality, labels and a training list",
    ),
    "nnunet_raw": Layout(
        _is_nnunet_raw,
        _read_nnunet_raw,
        "nnU-Net raw: dataset.json with channel_names, labels and file_ending; "
        "imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz",
    ),
    "plain": Layout(
        _is_plain,
        _read_plain,
        "plain: images/<case>.<ending> and labels/<case>.<ending> with equal names; several "
        "channels as images/<case>_0000.<ending>, _0001, …",
    ),
}
