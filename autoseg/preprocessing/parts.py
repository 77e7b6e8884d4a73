"""The parts of a prepared file, each byte checked when a process first reads it.

A part lies in pieces, each with a checksum (CRC-32): a list of voxels in one; a compressed array in
its head, its chunks, and the index behind them.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import log2, prod
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.records import Record

BYTES_AT_ONCE = 2**22
REMEDY = "Check the disk; `autoseg prepare --verify` finds what is damaged and prepares it again."
FRAME_HEAD_SIZE_AT, CHUNK_HEAD_BYTES = 11, 32  # in blosc2's formats
BLOCK_BITS, CHUNK_BITS = 15, 18  # voxels of a block and a chunk, as powers of two: 32^3, 64^3
QUICK_TO_READ = blosc2.CParams(
    codec=blosc2.Codec.LZ4,
    clevel=9,
    filters=[blosc2.Filter.BITSHUFFLE],
    filters_meta=[0],
    nthreads=1,
)
TIE = 1e-6  # so that rounding errors do not decide between two powers of two


class DamagedCaseError(AutosegError):
    """A stored case is not what was written; preparing it again puts it right."""


class StoredPart(Record):
    """Where a part lies, counted from the end of the text, what it holds, and its pieces."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    sizes_bytes: tuple[int, ...]
    crc32: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes_bytes)


@dataclass(frozen=True, slots=True)
class PackedPart:
    """A part as it is going to be written."""

    content: bytes
    dtype: str
    shape: tuple[int, ...]
    sizes_bytes: tuple[int, ...]

    def at(self, offset: int) -> StoredPart:
        """Its entry in the text of the file."""
        ends = np.cumsum([0, *self.sizes_bytes]).tolist()
        view = memoryview(self.content)
        return StoredPart(
            offset=offset,
            dtype=self.dtype,
            shape=self.shape,
            sizes_bytes=self.sizes_bytes,
            crc32=tuple(zlib.crc32(view[first:last]) for first, last in pairwise(ends)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The pieces of a part of a file, found by their number."""

    path: Path
    name: str  # of the part, as it stands in messages
    edges: NDArray[np.int64]  # [piece + 1] in bytes from the beginning of the file
    crc32: NDArray[np.uint32]  # [piece]

    @classmethod
    def of(cls, path: Path, name: str, part: StoredPart, start: int) -> "Pieces":
        """The pieces of a part of a file whose text ends at `start`."""
        edges = start + part.offset + np.cumsum([0, *part.sizes_bytes])
        return cls(path, name, edges, np.array(part.crc32, np.uint32))

    def check(self, numbers: Iterable[int]) -> None:
        """Raises DamagedCaseError unless these pieces are what was written."""
        with self._reading() as file:
            for number in numbers:
                if self._checksum(file, number) != self.crc32[number]:
                    raise self._damage("is not what was written")

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Some bytes of the part. Raises DamagedCaseError when they cannot be read."""
        with self._reading() as file:
            content = os.pread(file, size_bytes, int(self.edges[0]) + offset)
        if len(content) != size_bytes:
            raise self._damage("is cut off")
        return content

    @contextmanager
    def _reading(self) -> Iterator[int]:
        try:
            file = os.open(self.path, os.O_RDONLY)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise self._damage(f"cannot be read ({error.strerror})") from error

    def _checksum(self, file: int, number: int) -> int:
        first, last = self.edges[number : number + 2].tolist()
        checksum = 0
        while first < last and (block := os.pread(file, min(last - first, BYTES_AT_ONCE), first)):
            checksum = zlib.crc32(block, checksum)
            first += len(block)
        return checksum

    def _damage(self, what: str) -> DamagedCaseError:
        return DamagedCaseError(f"{self.path}: {self.name}: {what}. {REMEDY}")


@dataclass(slots=True, eq=False)
class StoredArray:
    """An array [..., z, y, x] of a stored case, read by slices.

    It is opened by the first read; a chunk is checked by the first read that touches it. Raises
    DamagedCaseError where it is not what was written.
    """

    pieces: Pieces
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _array: Any = None
    _unchecked: Any = None  # [chunks along each axis]

    def __getitem__(self, box: slice | tuple[slice, ...]) -> NDArray[Any]:
        if self._array is None:
            self._open()
        touched = self._chunks_in(box if isinstance(box, tuple) else (box,))
        if self._unchecked[touched].any():
            self._check(touched)
        values: NDArray[Any] = self._array[box]
        return values

    def _open(self) -> None:
        last = len(self.pieces.crc32) - 1
        self.pieces.check((0, last))
        array = blosc2.open(
            str(self.pieces.path),
            mode="r",
            offset=int(self.pieces.edges[0]),
            dparams=blosc2.DParams(nthreads=1),
        )
        grid = [-(-size // edge) for size, edge in zip(self.shape, array.chunks, strict=True)]
        self._unchecked = np.ones(grid, np.bool_)
        self._array = array  # last: other threads read once it is there

    def _chunks_in(self, box: tuple[slice, ...]) -> tuple[slice, ...]:
        chunks = []
        for part, size, edge in zip(box, self.shape, self._array.chunks, strict=False):
            first, last, _ = part.indices(size)
            chunks.append(slice(first // edge, -(-last // edge)))
        return tuple(chunks)

    def _check(self, touched: tuple[slice, ...]) -> None:
        numbers = np.arange(1, self._unchecked.size + 1).reshape(self._unchecked.shape)
        self.pieces.check(numbers[touched][self._unchecked[touched]].tolist())
        self._unchecked[touched] = False


@dataclass(slots=True, eq=False)
class StoredVoxels:
    """Voxels [n, 3] of a stored case, read one at a time; the first read checks all of them.

    Raises DamagedCaseError where they are not what was written.
    """

    pieces: Pieces
    count: int
    dtype: np.dtype[Any]
    _checked: bool = False

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if not self._checked:
            self.pieces.check((0,))
            self._checked = True
        size = 3 * self.dtype.itemsize
        return np.frombuffer(self.pieces.read(int(index) * size, size), self.dtype)


def pack_voxels(voxels: NDArray[Any]) -> PackedPart:
    """Voxels [n, 3] as they are, one after the other."""
    content = np.ascontiguousarray(voxels).tobytes()
    return PackedPart(content, voxels.dtype.str, voxels.shape, (len(content),))


def pack_array(array: NDArray[Any], spacing_mm: Sequence[float]) -> PackedPart:
    """An array [..., z, y, x] compressed in chunks and blocks that follow a grid's spacing."""
    lead = (1,) * (array.ndim - 3)
    chunks, blocks = tiles_vox(array.shape[-3:], spacing_mm)
    compressed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=lead + chunks,
        blocks=lead + blocks,
        contiguous=True,
        cparams=QUICK_TO_READ,
        dparams=blosc2.DParams(nthreads=1),
    )
    frame: bytes = compressed.to_cframe()
    return PackedPart(frame, array.dtype.name, array.shape, _piece_sizes(frame, compressed.schunk))


def tiles_vox(
    shape_vox: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges (z, y, x) of the chunks and blocks that an array is compressed in.

    They are cubes in space, as patches are. With two spacings blocks are one slice deep; chunks
    hold several of them where slices are small, since every chunk takes time to write.
    """
    missing = 3 - len(spacing_mm)
    chunk, block = (
        tuple(min(p) for p in zip(_edges_vox(bits, spacing_mm), shape_vox[missing:], strict=True))
        for bits in (CHUNK_BITS, BLOCK_BITS)
    )
    if not missing:
        return chunk, block
    depth = min(shape_vox[0], max(1, 2**CHUNK_BITS // prod(chunk)))
    return (depth, *chunk), (1, *block)


def _edges_vox(bits: int, spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Edges of a box of about 2^bits voxels that is a cube in space: powers of two."""
    coarseness = [log2(mm) for mm in spacing_mm]
    middle = (bits + sum(coarseness)) / len(spacing_mm) + TIE
    return tuple(2 ** max(0, round(middle - own)) for own in coarseness)


def _piece_sizes(frame: bytes, schunk: Any) -> tuple[int, ...]:
    """Bytes of head, chunks and index of a compressed array.

    Chunks lie in order; those of nothing but zeros are in the index alone.
    """
    (head,) = struct.unpack_from(">i", frame, FRAME_HEAD_SIZE_AT)
    end, sizes = head, []
    for number in range(schunk.nchunks):
        chunk = schunk.get_chunk(number)
        size = len(chunk) if frame.startswith(chunk, end) else 0
        assert size or len(chunk) == CHUNK_HEAD_BYTES
        end += size
        sizes.append(size)
    return (head, *sizes, len(frame) - end)
