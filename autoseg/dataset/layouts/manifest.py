"""A table of scans: for data that lies anywhere, has patients, or scans kept for testing."""

from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.layouts.description import declared_labels
from autoseg.dataset.layouts.folds import declared_folds
from autoseg.dataset.layouts.manifest_rows import GROUPS, Row, check_rows, csv_rows, json_rows
from autoseg.dataset.layouts.mapping import listed_but_missing
from autoseg.dataset.layouts.naming import components_of, is_file, listed_file
from autoseg.dataset.layouts.patients import Stated, with_patients
from autoseg.dataset.layouts.regions import region_problems
from autoseg.dataset.layouts.tidying import tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.formats import count_channels

NAMES = ("manifest.csv", "manifest.json")


def is_manifest(root: Path) -> bool:
    return _find(root) is not None


def read_manifest(root: Path, problems: list[Problem]) -> Dataset:
    """Paths are relative to the manifest; a scan without a group is trained on.

    Raises AutosegError when a row is incomplete; every mistake is listed.
    """
    path = _find(root)
    assert path is not None
    content = tidy_description(path, problems) if path.suffix.lower() == ".json" else None
    rows = csv_rows(path) if content is None else json_rows(content, path)
    check_rows(rows, path)
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
    folds = (content or {}).get("folds")
    trained = {row.case for row in rows if row.group != "test"}
    usable = {case.case_id for case in groups["train"]}
    dataset = Dataset(
        root=root,
        layout="manifest",
        channel_names=tuple(_numbered(tuple(rows[0].channels), counts)),
        labels=_labels(content or {}, path, problems),
        cases=groups["train"],
        test_cases=groups["test"],
        folds=() if folds is None else declared_folds(folds, path, trained, usable, problems),
    )
    return with_patients(dataset, _stated_patients(complete, path), problems)


def _stated_patients(rows: list[Row], path: Path) -> Stated:
    how = (
        f"State it in {path.name}: fill {'the column' if path.suffix == '.csv' else 'the key'} "
        "patient of each scan, with equal names for scans of one person."
    )
    return Stated({row.case: row.patient for row in rows if row.patient}, None, how, how)


def _labels(content: dict[str, Any], path: Path, problems: list[Problem]) -> LabelScheme | None:
    if content.get("instances"):
        return INSTANCE_SCHEME
    if "labels" not in content:
        return None
    labels = declared_labels(content, path)
    problems += region_problems(labels, path)
    return labels


def _name_missing(row: Row, folder: Path, problems: list[Problem]) -> bool:
    """Whether files of a scan do not exist; they are named among the problems."""
    names = [*row.channels.values(), *([row.label] if row.label else [])]
    missing = [file for file in (listed_file(folder, name) for name in names) if not is_file(file)]
    problems += [listed_but_missing(row.case, file) for file in missing]
    return bool(missing)


def _channel_counts(rows: list[Row], folder: Path) -> dict[str, int]:
    """Channels in each file of the first scan that can be read; inspection names the others."""
    for row in rows:
        files = {name: listed_file(folder, file) for name, file in row.channels.items()}
        try:
            return {name: count_channels(file) for name, file in files.items()}
        except AutosegError:
            continue
    return {}


def _case(row: Row, folder: Path, counts: dict[str, int]) -> Case:
    sources = tuple(
        source
        for name, file in row.channels.items()
        for source in components_of(listed_file(folder, file), counts.get(name, 1))
    )
    label = listed_file(folder, row.label) if row.label else None
    return Case(row.case, sources, label, row.patient or row.case)


def _find(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".json") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def _numbered(names: tuple[str, ...], counts: dict[str, int]) -> list[str]:
    """Channel names; a file of several channels gives `name_0`, `name_1`, …"""
    result = []
    for name in names:
        count = counts.get(name, 1)
        result += [name] if count == 1 else [f"{name}_{index}" for index in range(count)]
    return result
