"""Memory that is given out and taken back in the same order, shared with other processes."""

import mmap
import os
import tempfile
from collections import deque
from multiprocessing.reduction import DupFd
from typing import Any


class SharedMemory:
    """Bytes that processes share, gone with the last of them whatever happens.

    It may be sent to a process that is being started; names in a file system, which somebody would
    have to remove, it has none.
    """

    def __init__(self, size_bytes: int, file: int | None = None) -> None:
        self.size_bytes = size_bytes
        self.file = _nameless_file(size_bytes) if file is None else file
        self.view = memoryview(mmap.mmap(self.file, size_bytes))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.size_bytes, DupFd(self.file))


class Ring:
    """Pieces of some bytes, given out one behind the other; the oldest comes back first."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.pieces: deque[tuple[int, int]] = deque()  # begin and end, oldest first

    def take(self, size_bytes: int) -> int | None:
        """Where a piece begins; None where there is no room for it now."""
        if not self.pieces:
            begin, limit = 0, self.size_bytes
        else:
            oldest, newest = self.pieces[0][0], self.pieces[-1][1]
            begin, limit = newest, oldest if newest <= oldest else self.size_bytes
            if begin + size_bytes > limit and limit == self.size_bytes:  # begin anew
                begin, limit = 0, oldest
        if begin + size_bytes > limit:
            return None
        self.pieces.append((begin, begin + size_bytes))
        return begin

    def give_back(self) -> None:
        """Take back the oldest piece."""
        self.pieces.popleft()


def _nameless_file(size_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("autoseg")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    os.ftruncate(file, size_bytes)
    return file


def _arrived(size_bytes: int, file: Any) -> SharedMemory:
    return SharedMemory(size_bytes, file.detach())
