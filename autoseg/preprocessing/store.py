"""Prepared cases on disk: a file each, chunked, compressed, checksummed, read by the patch.

A file begins with eight known bytes, then length (64 bits) and checksum (CRC-32) of the JSON that
follows, both unsigned and little-endian; after the JSON lie the arrays that it lists.
"""

import io
import itertools
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Box, Placement
from autoseg.records import Record, replacing

SUFFIX = ".prepared"
MAGIC = b"ASEGPREP"
LENGTH_AND_CHECKSUM = "<QI"
PREFIX_BYTES = len(MAGIC) + struct.calcsize(LENGTH_AND_CHECKSUM)
BYTES_AT_ONCE = 2**22
SMALLEST_SPREAD, LARGEST_HALF = 0.01, 60_000.0  # what half precision can tell apart, and hold
LARGEST_IN_SPREADS = 100.0  # standard deviations, so that its steps stay below a twentieth of one
CHUNK_EDGE_VOX = 64
BLOCK_EDGE_VOX = 32


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A case on a plan's grid.

    `image` is [channel, z, y, x] float32; `label` holds class indices [z, y, x] or is None for a
    scan to predict; `outside_mask` [z, y, x] is true outside the body, None where it is not needed;
    `class_locations` gives sampled voxels [n, 3] of each class that is present.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    outside_mask: NDArray[np.bool_] | None
    class_locations: dict[int, NDArray[np.unsignedinteger[Any]]]
    placement: Placement


class SourceFile(Record):
    """Enough of a file to notice that it changed."""

    path: str
    size_bytes: int
    modified_ns: int


class StoredPart(Record):
    """Where an array lies, counted from the end of the text, and its checksum (CRC-32)."""

    offset: int
    size_bytes: int
    crc32: int


class StoredCaseInfo(Record):
    """The text at the beginning of a stored case."""

    sources: tuple[SourceFile, ...]
    placement: Placement
    parts: dict[str, StoredPart]


class DamagedCaseError(AutosegError):
    """A stored case is not what was written; preparing it again puts it right."""


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case on disk, opened: patches are read when asked for."""

    shape_vox: tuple[int, ...]
    image: Any  # blosc2 arrays, or numpy ones once loaded
    label: Any
    outside_mask: Any | None
    class_locations: dict[int, NDArray[np.unsignedinteger[Any]]]

    @property
    def bytes_in_memory(self) -> int:
        """What the case takes once loaded."""
        arrays = [a for a in (self.image, self.label, self.outside_mask) if a is not None]
        return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in arrays)

    def loaded(self) -> "StoredCase":
        """The same case with all its voxels in memory."""
        outside = None if self.outside_mask is None else self.outside_mask[:]
        return StoredCase(
            self.shape_vox, self.image[:], self.label[:], outside, self.class_locations
        )

    def read(
        self, box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Image [channel, ...], label and outside mask inside a box, which may leave the case.

        Voxels beyond the border are 0, background, and outside.
        """
        inside, padding = [], []
        for first, last, size in zip(box.start, box.stop, self.shape_vox, strict=True):
            part = slice(min(max(first, 0), size), min(max(last, 0), size))
            before = min(max(-first, 0), last - first)
            inside.append(part)
            padding.append((before, last - first - before - (part.stop - part.start)))
        image = np.pad(self.image[:, *inside].astype(np.float32), [(0, 0), *padding])
        label = np.pad(self.label[*inside], padding)
        if self.outside_mask is None:
            return image, label, None
        outside = np.pad(self.outside_mask[*inside] > 0, padding, constant_values=True)
        return image, label, outside


def write_case(path: Path, case: PreparedCase, sources: tuple[SourceFile, ...]) -> None:
    """Store a prepared case as one file; it appears whole or not at all."""
    assert case.label is not None
    arrays: dict[str, NDArray[Any]] = {"image": _smaller(case.image), "label": case.label}
    if case.outside_mask is not None:
        arrays["outside"] = case.outside_mask.astype(np.uint8)
    blobs = {name: _compress(array) for name, array in arrays.items()}
    locations = io.BytesIO()
    named: dict[str, Any] = {str(value): v for value, v in case.class_locations.items()}
    np.savez(locations, **named)
    blobs["locations"] = locations.getvalue()
    offsets = itertools.accumulate((len(blob) for blob in blobs.values()), initial=0)
    parts = {
        name: StoredPart(offset=offset, size_bytes=len(blob), crc32=zlib.crc32(blob))
        for (name, blob), offset in zip(blobs.items(), offsets, strict=False)
    }
    info = StoredCaseInfo(sources=sources, placement=case.placement, parts=parts)
    text = info.model_dump_json().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(MAGIC + struct.pack(LENGTH_AND_CHECKSUM, len(text), zlib.crc32(text)) + text)
        for blob in blobs.values():
            file.write(blob)


def stored_sources(path: Path) -> tuple[SourceFile, ...] | None:
    """The source files that a stored case was made from; None when it is not stored."""
    try:
        return _read_info(path)[0].sources
    except (FileNotFoundError, DamagedCaseError):
        return None


def open_case(path: Path) -> StoredCase:
    """Open a stored case for reading patches, once all its bytes are what was written.

    Raises DamagedCaseError when they are not.
    """
    info, start = _read_info(path)
    _check_parts(path, info, start)
    with path.open("rb") as file:
        file.seek(start + info.parts["locations"].offset)
        content = io.BytesIO(file.read(info.parts["locations"].size_bytes))
    with np.load(content, allow_pickle=False) as locations:
        class_locations = {int(key): locations[key] for key in locations.files}
    arrays = {
        name: blosc2.open(
            str(path), mode="r", offset=start + part.offset, dparams=blosc2.DParams(nthreads=1)
        )
        for name, part in info.parts.items()
        if name != "locations"
    }
    return StoredCase(
        shape_vox=info.placement.resampled_shape_vox,
        image=arrays["image"],
        label=arrays["label"],
        outside_mask=arrays.get("outside"),
        class_locations=class_locations,
    )


def _read_info(path: Path) -> tuple[StoredCaseInfo, int]:
    """The text of a stored case, and where its arrays begin."""
    with path.open("rb") as file:
        start = file.read(PREFIX_BYTES)
        if len(start) < PREFIX_BYTES or not start.startswith(MAGIC):
            raise DamagedCaseError(f"{path}: is no prepared case. Delete it and prepare again.")
        length, checksum = struct.unpack(LENGTH_AND_CHECKSUM, start[len(MAGIC) :])
        text = file.read(min(length, path.stat().st_size))
    if zlib.crc32(text) != checksum:
        raise DamagedCaseError(f"{path}: its description is damaged. Delete it and prepare again.")
    return StoredCaseInfo.model_validate_json(text), PREFIX_BYTES + length


def _check_parts(path: Path, info: StoredCaseInfo, start: int) -> None:
    with path.open("rb") as file:
        for name, part in info.parts.items():
            file.seek(start + part.offset)
            checksum, left = 0, part.size_bytes
            while left > 0 and (block := file.read(min(left, BYTES_AT_ONCE))):
                checksum = zlib.crc32(block, checksum)
                left -= len(block)
            if left or checksum != part.crc32:
                raise DamagedCaseError(
                    f"{path}: its {name} is not what was written. Check the disk; delete the file "
                    "and prepare again."
                )


def _smaller(image: NDArray[np.float32]) -> NDArray[Any]:
    """The image in half precision, where that is fine enough for every channel.

    Half precision keeps 11 bits: enough for normalised intensities, not for all that users may have
    left as it was.
    """
    for channel in image:
        spread = float(channel.std())
        largest = float(np.abs(channel).max(initial=0))
        if not (spread > SMALLEST_SPREAD and largest < LARGEST_IN_SPREADS * spread < LARGEST_HALF):
            return image
    return image.astype(np.float16)


def _compress(array: NDArray[Any]) -> bytes:
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(CHUNK_EDGE_VOX, size) for size in array.shape[-3:])
    blocks = lead + tuple(min(BLOCK_EDGE_VOX, size) for size in array.shape[-3:])
    compressed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=blocks,
        contiguous=True,
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1),
        dparams=blosc2.DParams(nthreads=1),
    )
    frame: bytes = compressed.to_cframe()
    return frame
