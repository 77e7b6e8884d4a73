"""Descriptions that are nearly right: what is meant is taken, and said."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from autoseg.dataset.layouts.description import (
    CHANNEL_SERIES,
    CODES,
    IGNORE,
    TOLERANCES,
    read_description,
)
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError

READ = (
    "channel_names", "modality", "labels", "file_ending", "regions_class_order", "training",
    TOLERANCES, CODES, CHANNEL_SERIES,
)  # fmt: skip
COUNTS = ("numTraining", "numTest", "nTest", "test")  # near to keys that are read, and others
CLOSE = 0.8


def tidy_description(
    path: Path, problems: list[Problem], decathlon: bool = False
) -> dict[str, Any]:
    """A `dataset.json` in the form that is read strictly; each thing taken otherwise is a warning.

    In the Decathlon's layout labels have their names on the right, so this is not worth a word.
    Raises AutosegError when it is no JSON object, or two labels have one name.
    """
    found = read_description(path)
    said: list[tuple[str, str]] = list(_misspelt(found))
    tidy = dict(found)
    for key in ("channel_names", "modality"):
        if key in tidy:
            tidy[key] = _channels(key, tidy[key], said)
    if "labels" in tidy:
        tidy["labels"] = _labels(tidy["labels"], path, said, decathlon)
    if isinstance(tidy.get("regions_class_order"), list):
        tidy["regions_class_order"] = [_number(value) for value in tidy["regions_class_order"]]
    if isinstance(tidy.get("dataset"), str) and (path.parent / "imagesTr").is_dir():
        what = f"dataset is the text {tidy.pop('dataset')!r}, where a mapping of cases could be."
        said.append((f"{what} It is passed over, and imagesTr is read.", "Remove the key."))
    problems += [_warning(path, what, fix) for what, fix in said]
    return tidy


def case_count_problems(description: Mapping[str, Any], path: Path, found: int) -> list[Problem]:
    """A warning where `numTraining` is another number than that of the cases that were found."""
    declared = _number(description.get("numTraining"))
    if declared is None or declared == found:
        return []
    what = f"numTraining is {declared!r}, but {found} training cases are here."
    return [_warning(path, what, "Look for missing or extra files, or correct the number.")]


def _misspelt(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in description:
        close = get_close_matches(key, READ, n=1, cutoff=CLOSE)
        if close and key not in (*READ, *COUNTS) and close[0] not in description:
            yield f"has the key {key!r}, which is not read.", f"Is {close[0]!r} meant?"


def _channels(key: str, channels: Any, said: list[tuple[str, str]]) -> Any:
    """Channel names by number, from a list, a single name, or a mapping the other way round."""
    if isinstance(channels, str):
        tidy: dict[str, Any] = {"0": channels}
    elif isinstance(channels, list):
        tidy = {str(index): name for index, name in enumerate(channels)}
    elif isinstance(channels, dict) and channels and not any(map(_is_number, channels)):
        if not all(_is_number(value) for value in channels.values()):
            return channels
        tidy = {str(_number(number)): name for name, number in channels.items()}
    elif isinstance(channels, dict):
        return {str(_number(index)): name for index, name in channels.items()}
    else:
        return channels
    said.append((f"{key} is {channels}, which is taken for {tidy}.", "Write it so."))
    return tidy


def _labels(labels: Any, path: Path, said: list[tuple[str, str]], decathlon: bool) -> Any:
    """Values by name, from a list that begins with the background, or names by value."""
    tidy, silent = labels, False
    if isinstance(labels, list) and labels and str(labels[0]).lower() == "background":
        _refuse_equal([str(name) for name in labels], path)
        tidy = {str(name): index for index, name in enumerate(labels)}
    elif isinstance(labels, dict) and _is_inverted(labels):
        _refuse_equal(list(labels.values()), path)
        tidy, silent = {name: _number(value) for value, name in labels.items()}, decathlon
    elif isinstance(labels, dict):
        tidy = {
            name: [_number(v) for v in value] if isinstance(value, list) else _number(value)
            for name, value in labels.items()
        }
        # 1.0 and "1" equal neither each other nor, as text, the number that is meant
        silent = repr(tidy) == repr(labels)
    else:
        return labels
    if not silent:
        said.append((f"labels is {labels}, which is taken for {tidy}.", "Write it so."))
    said.extend(
        (
            f"the label {name!r} is taken for a class.",
            'If not annotated is meant, call it "ignore".',
        )
        for name in tidy
        if str(name).lower() == IGNORE and name != IGNORE
    )
    return tidy


def _refuse_equal(names: list[str], path: Path) -> None:
    if len(set(names)) != len(names):
        raise AutosegError(f"{path}: two labels have the same name: {', '.join(names)}.")


def _is_inverted(labels: Mapping[Any, Any]) -> bool:
    """Whether labels are names by value, as in the Decathlon: {"1": "liver"}."""
    names = labels.values()
    return all(map(_is_number, labels)) and all(
        isinstance(name, str) and not _is_number(name) for name in names
    )


def _is_number(value: Any) -> bool:
    return isinstance(_number(value), int) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    """A whole number that is written as a text, or with a decimal point; else what it is."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _warning(path: Path, what: str, fix: str) -> Problem:
    return Problem(kind="description", case_id=None, file=str(path), what=what, fix=fix)
