"""Saved records: frozen, typed, plain JSON on disk, strict when read back."""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from autoseg.errors import AutosegError, raise_if_any


class Record(BaseModel):
    """Base of everything that is saved: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Record)

PARTIAL = ".partial-"
FULL_BELOW_BYTES = 64 * 1024  # no writer of ours could have succeeded with less


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
def replacing(path: Path, synced: bool = True) -> Iterator[Path]:
    """Give a temporary place to write a file or folder to, then put it where it belongs.

    A power cut leaves what was there or what is new, since the disk is told to keep the new before
    it gets its name; not so without `synced`, which is for what can be made again.

    When the body fails, what it wrote is removed and `path` is as it was; so is what a process left
    behind here when it was killed. The temporary name is the final one, in a hidden folder beside
    it that is locked as long as its writer lives. A folder that another process puts in place at
    the same moment is kept instead of ours. Raises AutosegError when the disk is full, whatever the
    writer raised.
    """
    _sweep(path.parent)
    with told_when_full(path), _locked_folder(path.parent) as holder:
        temporary = holder / path.name
        yield temporary
        if synced:
            _sync_all(temporary)
        _put_in_place(temporary, path, holder)
        if synced:
            _sync_folder(path.parent)


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Raises AutosegError when the body cannot write a file since the disk is full, whatever the
    writer raised."""
    try:
        yield
    except Exception as error:
        if _is_full(path.parent, error):
            raise AutosegError(
                f"{path}: the disk is full. Free some space and run the same command again; "
                "nothing half-written is left."
            ) from error
        raise


def _put_in_place(temporary: Path, path: Path, holder: Path) -> None:
    if not temporary.is_dir():
        temporary.replace(path)
        return
    if path.is_dir():
        path.rename(holder / "replaced")
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _sync_all(path: Path) -> None:
    """Return once the disk keeps a file, or all that a folder holds."""
    if path.is_symlink():  # its target is not ours
        return
    if not path.is_dir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return
    for part in path.iterdir():
        _sync_all(part)
    _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not all systems can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _locked_folder(parent: Path) -> Iterator[Path]:
    holder, handle = _new_locked_folder(parent)
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(handle)


def _new_locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        holder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
        try:
            handle = os.open(holder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # swept away by another process before it was locked
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if holder.is_dir():
            return holder, handle
        os.close(handle)


@lru_cache(maxsize=256)  # once per process and folder
def _sweep(parent: Path) -> None:
    """Remove what killed processes left behind: folders that nobody holds a lock on any more."""
    for holder in parent.glob(f"{PARTIAL}*"):
        try:
            handle = os.open(holder, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(holder, ignore_errors=True)
        except OSError:
            continue  # its writer lives, here or on another machine
        finally:
            os.close(handle)


def _is_full(folder: Path, error: Exception) -> bool:
    """Whether a write failed for want of space; some writers do not say so themselves."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return folder.is_dir() and shutil.disk_usage(folder).free < FULL_BELOW_BYTES


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
