"""A table of scans: for data that lies anywhere, has patients, or scans kept for testing."""

import csv
import io
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.layouts.description import declared_labels, read_description
from autoseg.dataset.layouts.naming import components_of
from autoseg.dataset.layouts.nnunet_raw import declared_folds, listed_but_missing
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.formats import count_channels
from autoseg.records import Record, parse_record

NAMES = ("manifest.csv", "manifest.json")
COLUMNS = ("case", "label", "patient", "group")  # every other column is a channel
GROUPS = ("train", "test")


class Row(Record):
    """One scan of a manifest; paths are as written."""

    case: str
    channels: dict[str, str]
    label: str | None = None
    patient: str | None = None
    group: str | None = "train"


def is_manifest(root: Path) -> bool:
    return _find(root) is not None


def read_manifest(root: Path, problems: list[Problem]) -> Dataset:
    """Paths are relative to the manifest; a scan without a group is trained on.

    Raises AutosegError when a row is incomplete; every mistake is listed.
    """
    path = _find(root)
    assert path is not None
    content = read_description(path) if path.suffix == ".json" else None
    rows = _csv_rows(path) if content is None else _json_rows(content, path)
    trained = {row.case for row in rows if row.group != "test"}
    folds = declared_folds((content or {}).get("folds", []), path, trained)
    _check_rows(rows, path)
    complete = [
        row
        for row in sorted(rows, key=lambda row: row.case)
        if not _name_missing(row, path.parent, problems)
    ]
    counts = _channel_counts(complete, path.parent)
    groups = {
        group: tuple(
            _case(row, path.parent, counts) for row in complete if (row.group or "train") == group
        )
        for group in GROUPS
    }
    return Dataset(
        root=root,
        layout="manifest",
        channel_names=tuple(_numbered(tuple(rows[0].channels), counts)),
        labels=_labels(content or {}, path),
        cases=groups["train"],
        test_cases=groups["test"],
        folds=folds,
    )


def _labels(content: dict[str, Any], path: Path) -> LabelScheme | None:
    if content.get("instances"):
        return INSTANCE_SCHEME
    return declared_labels(content, path) if "labels" in content else None


def _name_missing(row: Row, folder: Path, problems: list[Problem]) -> bool:
    """Whether files of a scan do not exist; they are named among the problems."""
    files = [*row.channels.values(), *([row.label] if row.label else [])]
    missing = [folder / file for file in files if not (folder / file).is_file()]
    problems += [listed_but_missing(row.case, file) for file in missing]
    return bool(missing)


def _channel_counts(rows: list[Row], folder: Path) -> dict[str, int]:
    """Channels in each file of the first scan that can be read; inspection names the others."""
    for row in rows:
        try:
            return {name: count_channels(folder / file) for name, file in row.channels.items()}
        except AutosegError:
            continue
    return {}


def _case(row: Row, folder: Path, counts: dict[str, int]) -> Case:
    sources = tuple(
        source
        for name, file in row.channels.items()
        for source in components_of(folder / file, counts.get(name, 1))
    )
    label = folder / row.label if row.label else None
    return Case(row.case, sources, label, row.patient or row.case)


def _find(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix in (".csv", ".json") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def _csv_rows(path: Path) -> list[Row]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # as older spreadsheets write it
        text = content.decode("cp1252", errors="replace")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = []
    for entry in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator):
        values = {str(k).strip(): (v or "").strip() for k, v in entry.items() if k is not None}
        rows.append(
            Row(
                case=values.get("case", ""),
                channels={name: v for name, v in values.items() if name not in COLUMNS},
                label=values.get("label"),
                patient=values.get("patient"),
                group=values.get("group") or "train",
            )
        )
    return rows


def _json_rows(content: dict[str, Any], path: Path) -> list[Row]:
    entries = content.get("cases")
    if not isinstance(entries, list):
        raise AutosegError(
            f'{path}: cases must be a list of {{"case": …, "channels": {{"CT": "a.nii.gz"}}, '
            '"label": …}.'
        )
    return [
        parse_record(Row, entry, f"{path}: scan {number}")
        for number, entry in enumerate(entries, 1)
    ]


def _check_rows(rows: list[Row], path: Path) -> None:
    if not rows:
        raise AutosegError(f"{path}: the table is empty.")
    mistakes = []
    seen: set[tuple[str | None, str]] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: scan {number} ({row.case or 'without a name'})"
        if not row.case or "/" in row.case:
            mistakes.append(f"{where}: the column case must hold a name without slashes.")
        elif (row.group, row.case) in seen:
            mistakes.append(f"{where}: this name was used before. Names must differ.")
        seen.add((row.group, row.case))
        if list(row.channels) != list(rows[0].channels) or not row.channels:
            mistakes.append(f"{where}: must have the channels {', '.join(rows[0].channels)}.")
        mistakes += [
            f"{where}: channel {name} has no file."
            for name, file in row.channels.items()
            if not file
        ]
        if (row.group or "train") not in GROUPS:
            mistakes.append(f"{where}: group is {row.group!r}, but must be train or test.")
        elif row.group != "test" and not row.label:
            mistakes.append(f"{where}: has no label. Add one, or put it into the group test.")
    raise_if_any(mistakes, f"{path}: the table cannot be used")


def _numbered(names: tuple[str, ...], counts: dict[str, int]) -> list[str]:
    """Channel names; a file of several channels gives `name_0`, `name_1`, …"""
    result = []
    for name in names:
        count = counts.get(name, 1)
        result += [name] if count == 1 else [f"{name}_{index}" for index in range(count)]
    return result
