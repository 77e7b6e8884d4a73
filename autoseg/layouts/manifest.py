"""A table of scans: for data that lies anywhere, has patients, or scans kept for testing."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset import INSTANCE_SCHEME, Case, ChannelSource, Dataset, Problem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.image_files import count_channels
from autoseg.layouts.description import declared_labels, read_description
from autoseg.layouts.naming import components_of
from autoseg.layouts.nnunet_raw import listed_but_missing

NAMES = ("manifest.csv", "manifest.json")
COLUMNS = ("case", "label", "patient", "group")  # every other column is a channel
GROUPS = ("train", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One scan of a manifest; paths are as written."""

    case_id: str
    channels: dict[str, str]
    label: str
    patient_id: str
    group: str


def is_manifest(root: Path) -> bool:
    return _find(root) is not None


def read_manifest(root: Path, problems: list[Problem]) -> Dataset:
    """Paths are relative to the manifest; a scan without a group is trained on.

    Raises AutosegError when a row is incomplete; every mistake is listed.
    """
    path = _find(root)
    assert path is not None
    labels = None
    if path.suffix == ".json":
        content = read_description(path)
        rows = _json_rows(content, path)
        if content.get("instances"):
            labels = INSTANCE_SCHEME
        elif "labels" in content:
            labels = declared_labels(content, path)
    else:
        rows = _csv_rows(path)
    _check_rows(rows, path)
    names = tuple(rows[0].channels)
    cases: dict[str, list[Case]] = {group: [] for group in GROUPS}
    counts: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: row.case_id):
        files = {name: path.parent / file for name, file in row.channels.items()}
        label = path.parent / row.label if row.label else None
        missing = [f for f in (*files.values(), *([label] if label else [])) if not f.is_file()]
        problems += [listed_but_missing(row.case_id, file) for file in missing]
        if missing:
            continue
        counts = counts or {name: count_channels(file) for name, file in files.items()}
        sources = tuple(
            source
            for name in names
            for source in (
                components_of(files[name], counts[name])
                if counts[name] > 1
                else (ChannelSource(files[name]),)
            )
        )
        cases[row.group].append(Case(row.case_id, sources, label, row.patient_id))
    return Dataset(
        root=root,
        layout="manifest",
        channel_names=tuple(_numbered(names, counts)),
        labels=labels,
        cases=tuple(cases["train"]),
        test_cases=tuple(cases["test"]),
    )


def _find(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix in (".csv", ".json") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def _csv_rows(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = []
    for entry in csv.DictReader(text.splitlines(), delimiter=separator):
        values = {str(k).strip(): (v or "").strip() for k, v in entry.items() if k is not None}
        channels = {name: v for name, v in values.items() if name not in COLUMNS}
        rows.append(_row(values, channels))
    return rows


def _json_rows(content: dict[str, Any], path: Path) -> list[Row]:
    entries = content.get("cases")
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("channels"), dict) for e in entries
    ):
        raise AutosegError(
            f'{path}: cases must be a list of {{"case": …, "channels": {{"CT": "a.nii.gz"}}, '
            '"label": …}.'
        )
    return [
        _row({k: str(v) for k, v in e.items() if k != "channels"}, dict(e["channels"]))
        for e in entries
    ]


def _row(values: dict[str, str], channels: dict[str, str]) -> Row:
    case_id = values.get("case", "")
    return Row(
        case_id=case_id,
        channels=channels,
        label=values.get("label", ""),
        patient_id=values.get("patient") or case_id,
        group=values.get("group") or "train",
    )


def _check_rows(rows: list[Row], path: Path) -> None:
    if not rows:
        raise AutosegError(f"{path}: the table is empty.")
    mistakes = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: scan {number} ({row.case_id or 'without a name'})"
        if not row.case_id or "/" in row.case_id:
            mistakes.append(f"{where}: the column case must hold a name without slashes.")
        elif row.case_id in seen:
            mistakes.append(f"{where}: this name was used before. Names must differ.")
        seen.add(row.case_id)
        if list(row.channels) != list(rows[0].channels) or not row.channels:
            mistakes.append(f"{where}: must have the channels {', '.join(rows[0].channels)}.")
        mistakes += [
            f"{where}: channel {name} has no file."
            for name, file in row.channels.items()
            if not file
        ]
        if row.group not in GROUPS:
            mistakes.append(f"{where}: group is {row.group!r}, but must be train or test.")
        elif row.group == "train" and not row.label:
            mistakes.append(f"{where}: has no label. Add one, or put it into the group test.")
    raise_if_any(mistakes, f"{path}: the table cannot be used")


def _numbered(names: tuple[str, ...], counts: dict[str, int]) -> list[str]:
    """Channel names; a file of several channels gives `name_0`, `name_1`, …"""
    result = []
    for name in names:
        count = counts.get(name, 1)
        result += [name] if count == 1 else [f"{name}_{index}" for index in range(count)]
    return result
