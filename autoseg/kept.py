"""What was compiled or measured on this computer, kept in a folder between starts."""

import contextlib
import hashlib
import logging
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.records import replacing

log = logging.getLogger(__name__)

KEPT = 64  # of a kind, the last used ones


def kept_path(folder: Path | None, described: str, suffix: str) -> Path | None:
    """Where something is kept that is so `described`; None: nowhere."""
    if folder is None:
        return None
    name = hashlib.blake2b(described.encode(), digest_size=16).hexdigest()
    return folder / f"{name}{suffix}"


def recall(path: Path | None) -> bytes | None:
    """What was kept there, if anything."""
    try:
        content = None if path is None else path.read_bytes()
    except OSError:
        return None
    if path is not None:
        with contextlib.suppress(OSError):  # of a folder that is for reading only
            path.touch()
    return content


def keep(path: Path | None, content: bytes) -> None:
    """Keep it for the next start, and forget those of its kind that were not used longest."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, synced=False) as temporary:
            temporary.write_bytes(content)
    except (OSError, AutosegError) as error:  # a folder that cannot be written keeps nothing
        log.info("Not kept for the next start: %s", error)
        return
    with contextlib.suppress(OSError):  # another process may be doing the same
        _forget_the_oldest(path)


def _forget_the_oldest(latest: Path) -> None:
    alike = latest.parent.glob(f"*{latest.suffix}")
    by_age = sorted(alike, key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[KEPT:]:
        old.unlink(missing_ok=True)
