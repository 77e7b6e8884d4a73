"""Who works where: a small file that a process holds as long as it lives.

On one computer the file's lock says whether its holder lives, so a killed process holds nothing.
Between computers that share a folder its time does, which the holder renews.
"""

import fcntl
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

from pydantic import ValidationError

from autoseg.errors import AutosegError
from autoseg.machine import boot_name, process_start
from autoseg.records import Record, told_when_full

HEARTBEAT_S = 30.0
SILENCE_S = 300.0  # of a holder on another computer, after which it is taken to be lost
ATTEMPTS, PAUSE_S = 6, 0.05  # for others lock the file for a moment to see who holds it


class Holder(Record):
    """The process that holds a place. `boot` is of one computer since it started: containers on it
    share it. `started` tells a process from a later one of the same number."""

    command: str
    host: str
    boot: str
    pid: int
    started: str
    since: str

    def is_here(self) -> bool:
        return self.boot == boot_name()


@contextmanager
def leased(path: Path, place: str) -> Iterator[None]:
    """Hold a place, by a file, until the body ends or this process dies.

    Raises AutosegError that names the living process that holds it, or the file if it cannot be
    written.
    """
    handle = _opened(path)
    try:
        if (holder := _take(handle, path, fcntl.LOCK_EX)) is not None:
            raise AutosegError(_refusal(holder, path, place))
        with told_when_full(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, _this_process().model_dump_json(indent=2).encode(), 0)
        ended = Event()
        heart = Thread(target=_renew, args=(handle, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def check_free(path: Path, place: str) -> None:
    """Raises AutosegError that names the living process that holds a place, if one does."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # nobody ever held it
        return
    try:
        if (holder := _take(handle, path, fcntl.LOCK_SH)) is not None:
            raise AutosegError(_refusal(holder, path, place))
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    try:
        with told_when_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:  # it is another user's, or something else has its name
        raise AutosegError(
            f"{path}: this file says who works here, but cannot be written ({error.strerror}). "
            "Delete or rename what has its name, change the permissions, or choose another work "
            "folder with --work."
        ) from error


def _take(handle: int, path: Path, lock: int) -> Holder | None:
    """Lock a file; the living process that holds it, or None where it is ours."""
    for attempt in range(ATTEMPTS):
        try:
            fcntl.flock(handle, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE_S)
            continue
        except OSError:  # a network disk without locks
            holder = _read(path)
            return holder if holder is not None and _seems_alive(holder, path) else None
        holder = _read(path)
        if holder is None or holder.is_here() or holder.host == socket.gethostname():
            return None  # it ended, at the latest when this computer started again
        return holder if _silence_s(path) < SILENCE_S else None  # some locks do not reach so far
    unknown = {"command": "another process", "host": "?", "boot": "", "pid": 0, "started": ""}
    return _read(path) or Holder(since="just now", **unknown)


def _seems_alive(holder: Holder, path: Path) -> bool:
    if holder.is_here() and holder.host == socket.gethostname():  # the same container
        return process_start(holder.pid) == holder.started
    return _silence_s(path) < SILENCE_S


def _refusal(holder: Holder, path: Path, place: str) -> str:
    if holder.is_here() and holder.host == socket.gethostname():
        stop = f"stop it (kill {holder.pid})"
    elif holder.is_here():  # in another container, where its number is of another process
        stop = f"stop it there ({holder.host} is another container on this computer)"
    else:
        heard = f"it was last heard of {_silence_s(path):.0f} seconds ago"
        stop = f"stop it there ({heard}; should that computer be lost, delete {path})"
    return (
        f"{place} is in use by `{holder.command}` (process {holder.pid} on {holder.host}, since "
        f"{holder.since}). Wait until it ends, {stop}, or work beside it: plan with another --name "
        "or another --work."
    )


def _this_process() -> Holder:
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return Holder(
        command=shlex.join([name, *sys.argv[1:]]),
        host=socket.gethostname(),
        boot=boot_name(),
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        since=datetime.now().astimezone().isoformat(" ", "seconds"),
    )


def _renew(handle: int, ended: Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):  # the disk may come back
            os.utime(handle)


def _silence_s(path: Path) -> float:
    """Seconds since a holder renewed its file, both by the clock of the disk's server."""
    with suppress(OSError), tempfile.TemporaryFile(dir=path.parent) as probe:
        return os.fstat(probe.fileno()).st_mtime - path.stat().st_mtime
    return time.time() - path.stat().st_mtime


def _read(path: Path) -> Holder | None:
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # free, or cut short
        return None
