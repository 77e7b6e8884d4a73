"""The rows of a table of scans, as CSV or JSON; every mistake in them is listed."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoseg.dataset.layouts.json_files import read_text
from autoseg.dataset.layouts.naming import composed
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.formats import file_ending
from autoseg.records import Record, parse_record

COLUMNS = ("case", "label", "patient", "group")  # every other column is a channel
GROUPS = ("train", "test")
SEPARATOR_LINE = "sep="  # as spreadsheets write it before the header


class Row(Record):
    """One scan of a manifest; paths are as written."""

    case: str
    channels: dict[str, str]
    label: str | None = None
    patient: str | None = None
    group: str | None = "train"


def csv_rows(path: Path) -> list[Row]:
    """The rows of a table, whose columns may be in any letters, and set apart by , ; or tabs.

    Raises AutosegError when columns are missing or given twice, or a row has more fields.
    """
    text = read_text(path).lstrip("\r\n")
    if text[:4].lower() == SEPARATOR_LINE:
        text = text.partition("\n")[2]
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    table = [[field.strip() for field in line] for line in lines]
    header, fields = (table or [[]])[0], [line for line in table[1:] if any(line)]
    names = [name.lower() if name.lower() in COLUMNS else name for name in header]
    while (
        names and not names[-1] and not any(len(line) >= len(names) and line[-1] for line in fields)
    ):
        names.pop()  # separators at the ends of lines
    raise_if_any(list(_header_mistakes(names, fields, path)), f"{path}: the table cannot be used")
    return [_row(dict(zip(names, [*line, *[""] * len(names)], strict=False))) for line in fields]


def json_rows(content: dict[str, Any], path: Path) -> list[Row]:
    """The scans that a JSON table lists. Raises AutosegError when they are of another form."""
    entries = content.get("cases")
    if not isinstance(entries, list):
        raise AutosegError(
            f'{path}: cases must be a list of {{"case": …, "channels": {{"CT": "a.nii.gz"}}, '
            '"label": …}.'
        )
    return [
        parse_record(Row, _composed(entry), f"{path}: scan {number}")
        for number, entry in enumerate(entries, 1)
    ]


def check_rows(rows: list[Row], path: Path) -> None:
    """Raises AutosegError that lists what is wrong with any of the rows."""
    if not rows:
        raise AutosegError(f"{path}: the table is empty.")
    mistakes = list(_columns_without_images(rows, path))
    seen: set[tuple[str | None, str]] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: scan {number} ({row.case or 'without a name'})"
        if not row.case or "/" in row.case or "\\" in row.case:
            mistakes.append(f"{where}: the column case must hold a name without slashes.")
        elif (row.group, row.case) in seen:
            mistakes.append(f"{where}: this name was used before. Names must differ.")
        seen.add((row.group, row.case))
        mistakes += [f"{where}: {mistake}" for mistake in _row_mistakes(row, rows[0])]
    raise_if_any(mistakes, f"{path}: the table cannot be used")


def _row_mistakes(row: Row, first: Row) -> Iterator[str]:
    if list(row.channels) != list(first.channels) or not row.channels:
        yield f"must have the channels {', '.join(first.channels)}."
    for name, file in row.channels.items():
        if not file:
            yield f"channel {name} has no file."
    if (row.group or "train") not in GROUPS:
        yield f"group is {row.group!r}, but must be train or test."
    elif row.group != "test" and not row.label:
        yield "has no label. Add one, or put it into the group test."


def _columns_without_images(rows: list[Row], path: Path) -> Iterator[str]:
    """Columns that are taken for channels, but name no image in any row: an age, a site."""
    for name in rows[0].channels:
        files = [row.channels[name] for row in rows if row.channels.get(name)]
        if files and not any(file_ending(Path(file)) for file in files):
            yield (
                f"{path}: {name} holds no names of images, such as {files[0]!r}. Columns other "
                f"than {', '.join(COLUMNS)} are channels: rename or remove it."
            )


def _header_mistakes(names: list[str], fields: list[list[str]], path: Path) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"{path}: {names.count(name)} columns are called {name!r}. Names must differ."
    if fields and "case" not in names:
        yield (
            f"{path}: no column is called case. Its columns are {', '.join(names)}; name the one "
            "that holds the names of scans so."
        )
    for number, line in enumerate(fields, 1):
        if any(line[len(names) :]):
            yield (
                f"{path}: scan {number} has {len(line)} fields, but there are {len(names)} "
                "columns. Put fields that hold the separator into double quotes."
            )


def _row(values: dict[str, str]) -> Row:
    return Row(
        case=composed(values.get("case", "")),
        channels={name: value for name, value in values.items() if name not in COLUMNS},
        label=values.get("label"),
        patient=values.get("patient"),
        group=(values.get("group") or "train").lower(),
    )


def _composed(entry: Any) -> Any:
    if isinstance(entry, dict) and isinstance(entry.get("case"), str):
        return entry | {"case": composed(entry["case"])}
    return entry
