"""Datasets on disk: which scans there are, where their files lie, and what the labels mean."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError, raise_if_any
from autoseg.records import Record, read_json
from autoseg.volume import READERS

MAX_CLASSES = 255  # with the outside of the body as one more, class indices fit into a byte

LayoutName = Literal["nnunet_raw"]

SUPPORTED_LAYOUTS = (
    "nnU-Net raw: dataset.json with channel_names, labels and file_ending; "
    "imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz"
)


class LabelScheme(Record):
    """The classes: values as they are in label files, and names. Index 0 is the background.

    Inside autoseg a class is its index in `values`, so values need not be consecutive.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]

    def encode(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """File values to class indices (uint8). Raises ValueError for an undeclared value."""
        order = np.argsort(self.values)
        ordered = np.asarray(self.values)[order]
        position = np.clip(np.searchsorted(ordered, labels), 0, len(ordered) - 1)
        unknown = ordered[position] != labels
        if unknown.any():
            raise ValueError(sorted({int(value) for value in np.unique(labels[unknown])}))
        return order[position].astype(np.uint8)

    def decode(self, classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Class indices to file values, in the smallest unsigned type that holds them all."""
        table = np.asarray(self.values, dtype=np.min_scalar_type(max(self.values)))
        decoded: NDArray[np.integer[Any]] = table[classes]
        return decoded


@dataclass(frozen=True, slots=True)
class Case:
    """Where one scan's files are; holds no pixels."""

    case_id: str
    channels: tuple[Path, ...]
    label: Path | None
    patient_id: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training cases with their channel names and label scheme."""

    root: Path
    layout: LayoutName
    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[Case, ...]


def open_dataset(root: Path) -> Dataset:
    """Recognise a dataset's layout and list its training cases; no image is opened.

    Raises AutosegError when the folder is absent or empty, its layout is none that is supported,
    or files are missing; every problem is listed.
    """
    if not root.is_dir():
        raise AutosegError(f"{root}: there is no such dataset folder. Give the path to one.")
    if not any(root.iterdir()):
        raise AutosegError(f"{root}: this folder is empty. Supported layouts: {SUPPORTED_LAYOUTS}.")
    for recognise, reader in LAYOUTS.values():
        if recognise(root):
            return reader(root)
    raise AutosegError(
        f"{root}: no supported dataset layout is recognised here. Supported: {SUPPORTED_LAYOUTS}."
    )


def group_channels(
    paths: list[Path], file_endings: tuple[str, ...]
) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """Group `<case>_<4 digits><ending>` files by case; the second part is what does not fit."""
    pattern = re.compile(
        r"(.+)_(\d{4})(" + "|".join(re.escape(ending) for ending in file_endings) + ")"
    )
    groups: dict[str, dict[int, Path]] = {}
    others = []
    for path in sorted(paths):
        if path.name.startswith("."):
            continue
        match = pattern.fullmatch(path.name)
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = path
        else:
            others.append(path)
    return groups, others


def _is_nnunet_raw(root: Path) -> bool:
    return (root / "dataset.json").is_file() and (root / "imagesTr").is_dir()


def _read_nnunet_raw(root: Path) -> Dataset:
    description_path = root / "dataset.json"
    description = read_json(description_path)
    problems: list[str] = []
    channel_names = _channel_names(description, description_path, problems)
    labels = _label_scheme(description, description_path, problems)
    ending = description.get("file_ending")
    if ending not in READERS:
        problems.append(
            f"{description_path}: file_ending is {ending!r}, but must be one of "
            f"{', '.join(READERS)}."
        )
    raise_if_any(problems, f"{description_path} cannot be used")
    assert labels is not None

    groups, others = group_channels(list((root / "imagesTr").iterdir()), (ending,))
    problems += [
        f"{path}: not named <case>_<4 digits>{ending}. Rename or remove it."
        for path in others
        if path.name.endswith(ending)
    ]
    cases = []
    for case_id, channels in sorted(groups.items()):
        expected = set(range(len(channel_names)))
        for channel in sorted(expected - channels.keys()):
            problems.append(
                f"{case_id}: channel {channel} ({channel_names[channel]}) is missing; expected "
                f"{root / 'imagesTr' / f'{case_id}_{channel:04d}{ending}'}."
            )
        for channel in sorted(channels.keys() - expected):
            problems.append(
                f"{case_id}: {channels[channel]} is channel {channel}, but dataset.json declares "
                f"{len(channel_names)}. Add it to channel_names or remove the file."
            )
        label = root / "labelsTr" / f"{case_id}{ending}"
        if not label.is_file():
            problems.append(f"{case_id}: its label file {label} does not exist.")
        paths = tuple(channels[index] for index in sorted(channels))
        cases.append(Case(case_id, paths, label, patient_id=case_id))
    if not cases and not problems:
        problems.append(f"{root / 'imagesTr'}: there is no image named <case>_0000{ending} here.")
    raise_if_any(problems, f"{root}: the dataset is incomplete")
    return Dataset(root, "nnunet_raw", channel_names, labels, tuple(cases))


def _channel_names(description: dict[str, Any], path: Path, problems: list[str]) -> tuple[str, ...]:
    channels = description.get("channel_names")
    if not isinstance(channels, dict) or not channels:
        problems.append(f'{path}: channel_names is missing, for example {{"0": "CT"}}.')
        return ()
    expected = [str(index) for index in range(len(channels))]
    if sorted(channels, key=str) != sorted(expected):
        problems.append(
            f"{path}: channel_names has keys {', '.join(channels)}, expected {', '.join(expected)}."
        )
        return ()
    return tuple(str(channels[key]) for key in expected)


def _label_scheme(
    description: dict[str, Any], path: Path, problems: list[str]
) -> LabelScheme | None:
    labels = description.get("labels")
    if not isinstance(labels, dict) or not labels:
        problems.append(f'{path}: labels is missing, for example {{"background": 0, "tumour": 1}}.')
        return None
    unusable = {
        name: value
        for name, value in labels.items()
        if isinstance(value, bool) or not isinstance(value, int) or value < 0
    }
    for name, value in unusable.items():
        problems.append(
            f"{path}: label {name!r} has value {value!r}. Only non-negative whole numbers are "
            "supported; regions (lists of numbers) are not yet."
        )
    if "ignore" in labels:
        problems.append(f"{path}: the label 'ignore' is not supported yet. Remove it.")
    if unusable or "ignore" in labels:
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


LAYOUTS: dict[LayoutName, tuple[Callable[[Path], bool], Callable[[Path], Dataset]]] = {
    "nnunet_raw": (_is_nnunet_raw, _read_nnunet_raw),
}
