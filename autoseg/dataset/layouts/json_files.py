"""JSON that people write by hand: mistakes are named by line, and no key is given twice."""

import codecs
import json
import re
from pathlib import Path
from typing import Any

from autoseg.errors import AutosegError, raise_if_any

UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
CURLED_QUOTES = ("\u201c", "\u201d", "\u2018", "\u2019")
OTHER_WORDS = {"True": "true", "False": "false", "None": "null"}  # as Python writes them


def read_written_json(path: Path) -> Any:
    """A JSON file; a byte order mark before it is passed over.

    Raises AutosegError that names line, column and the likely cause, or keys that are given twice.
    """
    text = read_text(path)
    twice: list[str] = []

    def with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, list[Any]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        twice.extend(_given_twice(key, given) for key, given in values.items() if len(given) > 1)
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=with_each_key_once)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise AutosegError(f"{path}: not valid JSON at {where}: {_cause(text, error)}") from None
    except RecursionError:
        raise AutosegError(f"{path}: is nested too deeply to be meant. Write it anew.") from None
    raise_if_any([f"{path}: {problem}" for problem in twice], f"{path}: keys are given twice")
    return content


def read_text(path: Path) -> str:
    """The text of a file that a person wrote, in UTF-8 or as Windows saves it.

    Raises AutosegError when the file cannot be opened.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AutosegError(f"{path}: cannot be opened ({error.strerror}).") from None
    if content.startswith(UTF_16_MARKS):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # as older spreadsheets write it
        return content.decode("cp1252", errors="replace")


def _given_twice(key: str, values: list[Any]) -> str:
    shown = ", ".join(json.dumps(value, ensure_ascii=False)[:40] for value in values)
    return f'"{key}" is given {len(values)} times: {shown}. Keep one of them, or rename the others.'


def _cause(text: str, error: json.JSONDecodeError) -> str:
    """What is most likely meant, from the text around the place of the mistake."""
    here, before = text[error.pos :].lstrip(), text[: error.pos].rstrip()
    if not text.strip():
        return "the file is empty. Restore it or write it anew."
    if here.startswith(("//", "/*", "#")):
        return "JSON has no comments. Remove it."
    if (here[:1] in ("}", "]", ",") and before.endswith(",")) or re.match(r",\s*[}\]]", here):
        return "there is a comma too many. Remove the last one before here."
    if here.startswith("'") or here[:1] in CURLED_QUOTES:
        return 'texts stand in straight double quotes. Write "…".'
    for word, meant in OTHER_WORDS.items():
        if here.startswith(word):
            return f"write {meant} in place of {word}."
    if not here:
        return "the file ends too early. Close what is open with ] or }, or copy it again."
    if error.msg.startswith("Expecting ',' delimiter"):
        return f"a comma is missing before {_shown(here)}. Add it."
    if error.msg.startswith("Expecting property name"):
        return f"a key in double quotes is expected, not {_shown(here)}."
    if error.msg.startswith("Extra data"):
        return f"{_shown(here)} stands after the end. Remove what is too much."
    return f"{error.msg} ({_shown(here)}). Correct it there."


def _shown(text: str) -> str:
    return text.split("\n")[0][:30].rstrip()
