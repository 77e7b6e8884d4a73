"""Probabilities of a whole scan in a file, made and compressed without holding them."""

import mmap
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.records import replacing

NAME = "probabilities"  # of the array in the file, as in nnU-Net's
COMPRESSION = 1  # of 9: noise does not get smaller, only slower
BYTES_AT_ONCE = 2**24


class ProbabilityFile:
    """Float16 [output, z, y, x] that lies on a disk; call `settle` to give memory back."""

    def __init__(self, memory: mmap.mmap, shape: tuple[int, ...]) -> None:
        self.memory = memory
        self.array = np.frombuffer(memory, np.float16).reshape(shape)

    def settle(self) -> None:
        """Leave what was written to the disk."""
        self.memory.flush()
        if hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


@contextmanager
def probability_file(path: Path, shape: tuple[int, ...]) -> Iterator[ProbabilityFile]:
    """An array to fill, which becomes `path`, a compressed .npz, atomically at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        raw = temporary.with_suffix(".raw")
        with raw.open("w+b") as file:
            _reserve(file.fileno(), 2 * prod(shape))
            memory = mmap.mmap(file.fileno(), 0)
            held = ProbabilityFile(memory, shape)
            try:
                yield held
                _compress(temporary, held)
            finally:
                del held.array
                with suppress(BufferError):  # the frames of an error may look at it still
                    memory.close()
        raw.unlink()


@contextmanager
def stored_outputs(path: Path) -> Iterator[tuple[int, Iterator[NDArray[np.float16]]]]:
    """How many outputs a file holds, and each [z, y, x] of them, one at a time."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{NAME}.npy") as entry:
        np.lib.format.read_magic(entry)
        (count, *space), _, dtype = np.lib.format.read_array_header_2_0(entry)
        size = dtype.itemsize * prod(space)
        yield count, (np.frombuffer(entry.read(size), dtype).reshape(space) for _ in range(count))


def rewrite_probabilities(
    path: Path, change: Callable[[NDArray[np.float16]], NDArray[np.float16]]
) -> None:
    """Put what a function makes of each output [z, y, x] in the place of a file's, one by one."""
    with stored_outputs(path) as (count, outputs):
        first = change(next(outputs))
        with probability_file(path, (count, *first.shape)) as file:
            for index, output in enumerate(chain([first], map(change, outputs))):
                file.array[index] = output
                file.settle()


def _reserve(file: int, size: int) -> None:
    """Make a file of a size; on a full disk this is an error, but writing to a mapping a crash."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def _compress(path: Path, held: ProbabilityFile) -> None:
    array: NDArray[np.float16] = held.array
    flat = array.reshape(-1)
    step = BYTES_AT_ONCE // array.itemsize
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive,
        archive.open(f"{NAME}.npy", "w", force_zip64=True) as entry,
    ):
        np.lib.format.write_array_header_2_0(entry, np.lib.format.header_data_from_array_1_0(array))
        for first in range(0, flat.size, step):
            entry.write(flat[first : first + step].tobytes())
            held.settle()
