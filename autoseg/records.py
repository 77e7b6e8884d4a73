"""Saved records: frozen, typed, plain JSON on disk, strict when read back."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from autoseg.errors import AutosegError, raise_if_any


class Record(BaseModel):
    """Base of everything that is saved: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Record)


def save_record(record: Record, path: Path) -> None:
    """Write a record as indented JSON, atomically; missing folders are made."""
    save_json(record.model_dump(mode="json"), path)


def save_json(content: Any, path: Path) -> None:
    """Write plain data as JSON, atomically; lists of plain values stay on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(format_json(content) + "\n", encoding="utf-8")


def load_record(kind: type[R], path: Path) -> R:
    """Read a record; every unknown, missing or ill-typed key is reported at once.

    Raises AutosegError when the file is absent, is no JSON, or does not fit the record.
    """
    return parse_record(kind, read_json(path), str(path))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises AutosegError when it is absent or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AutosegError(f"{path}: this file does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AutosegError(
            f"{path}: not valid JSON ({error}). Restore the file or make it again."
        ) from None


def parse_record(kind: type[R], content: Any, where: str) -> R:
    """Validate plain data as a record; `where` names its source in messages."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{where}: {'.'.join(str(part) for part in issue['loc']) or 'the file'}: {issue['msg']}"
            for issue in error.errors()
        ]
        raise_if_any(problems, f"{where} is not a valid {kind.__name__}")
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to, then rename it over `path`.

    When the body fails, the temporary file is removed and `path` is as it was. The name's ending
    is kept, since writers of images choose the format by it.
    """
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def format_json(content: Any, indent: str = "") -> str:
    """JSON with one key a line, and lists of plain values on a single line."""
    inner = indent + "  "
    if isinstance(content, dict) and content:
        lines = [
            f"{inner}{json.dumps(str(k))}: {format_json(v, inner)}" for k, v in content.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(content, list | tuple) and any(isinstance(v, dict | list) for v in content):
        if all(isinstance(v, list) for v in content) and len(json.dumps(content)) < 80:
            return json.dumps(content)
        return "[\n" + ",\n".join(inner + format_json(v, inner) for v in content) + f"\n{indent}]"
    return json.dumps(content, ensure_ascii=False)
