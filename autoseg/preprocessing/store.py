"""Prepared cases on disk: a file each, chunked, compressed, checksummed, read by the patch.

A file begins with eight known bytes, then length (64 bits) and checksum (CRC-32) of the JSON that
follows, both unsigned and little-endian; after the JSON lie the arrays that it lists.
"""

import io
import itertools
import struct
import zlib
from dataclasses import dataclass, replace
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
ANNOTATED = "annotated"

Voxels = NDArray[np.unsignedinteger[Any]]  # [n, 3]


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A case on a plan's grid.

    `image` is [channel, z, y, x] float32; `label` holds class indices [z, y, x] or is None for a
    scan to predict; `outside_mask` [z, y, x] is true outside the body, None where it is not needed;
    `class_locations` gives sampled voxels [n, 3] of each class, or each region, that is present;
    `annotated_locations` of all that is annotated, None where everything is; `previous_label` holds
    the class indices that the previous stage of a cascade found.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    outside_mask: NDArray[np.bool_] | None
    class_locations: dict[int, Voxels]
    annotated_locations: Voxels | None
    previous_label: NDArray[np.uint8] | None
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
class StoredPatch:
    """A box of a stored case: image [channel, z, y, x], the others [z, y, x] as prepared."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    outside: NDArray[np.bool_] | None
    previous: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case on disk, opened: patches are read when asked for.

    Other processes can open it again by `path`, and the mask of its previous stage by its own.
    """

    shape_vox: tuple[int, ...]
    image: Any  # blosc2 arrays, or numpy ones once loaded
    label: Any
    outside_mask: Any | None
    class_locations: dict[int, Voxels]
    annotated_locations: Voxels | None = None
    previous_label: Any | None = None
    path: Path | None = None
    previous_path: Path | None = None

    @property
    def bytes_in_memory(self) -> int:
        """What the case takes once loaded."""
        arrays = (self.image, self.label, self.outside_mask, self.previous_label)
        return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in arrays if a is not None)

    def loaded(self) -> "StoredCase":
        """The same case with all its voxels in memory."""
        return replace(
            self,
            image=self.image[:],
            label=self.label[:],
            outside_mask=None if self.outside_mask is None else self.outside_mask[:],
            previous_label=None if self.previous_label is None else self.previous_label[:],
        )

    def read(self, box: Box) -> StoredPatch:
        """What lies inside a box, which may leave the case.

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
        outside = previous = None
        if self.outside_mask is not None:
            outside = np.pad(self.outside_mask[*inside] > 0, padding, constant_values=True)
        if self.previous_label is not None:
            previous = np.pad(self.previous_label[*inside], padding)
        return StoredPatch(image, label, outside, previous)


def write_case(path: Path, case: PreparedCase, sources: tuple[SourceFile, ...]) -> None:
    """Store a prepared case as one file; it appears whole or not at all."""
    assert case.label is not None
    arrays: dict[str, NDArray[Any]] = {"image": _smaller(case.image), "label": case.label}
    if case.outside_mask is not None:
        arrays["outside"] = case.outside_mask.astype(np.uint8)
    blobs = {name: _compress(array) for name, array in arrays.items()}
    locations = io.BytesIO()
    named: dict[str, Any] = {str(value): v for value, v in case.class_locations.items()}
    if case.annotated_locations is not None:
        named[ANNOTATED] = case.annotated_locations
    np.savez(locations, **named)
    blobs["locations"] = locations.getvalue()
    _write_parts(path, blobs, case.placement, sources)


def write_mask(
    path: Path,
    classes: NDArray[np.uint8],
    placement: Placement,
    sources: tuple[SourceFile, ...],
) -> None:
    """Store class indices [z, y, x] alone, as `write_case` stores a whole case."""
    _write_parts(path, {"label": _compress(classes)}, placement, sources)


def open_mask(path: Path) -> Any:
    """Class indices [z, y, x] as `write_mask` stored them, to be read by the patch.

    Raises DamagedCaseError when the file is not what was written.
    """
    info, start = _read_info(path)
    _check_parts(path, info, start)
    return _open_array(path, start + info.parts["label"].offset)


def _write_parts(
    path: Path, blobs: dict[str, bytes], placement: Placement, sources: tuple[SourceFile, ...]
) -> None:
    offsets = itertools.accumulate((len(blob) for blob in blobs.values()), initial=0)
    parts = {
        name: StoredPart(offset=offset, size_bytes=len(blob), crc32=zlib.crc32(blob))
        for (name, blob), offset in zip(blobs.items(), offsets, strict=False)
    }
    info = StoredCaseInfo(sources=sources, placement=placement, parts=parts)
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


def stored_placement(path: Path) -> Placement:
    """The way back of a stored case. Raises DamagedCaseError when it is none."""
    return _read_info(path)[0].placement


def open_case(path: Path, check: bool = True) -> StoredCase:
    """Open a stored case for reading patches, once all its bytes are what was written.

    Raises DamagedCaseError when they are not. Who has checked them need not do so again.
    """
    info, start = _read_info(path)
    if check:
        _check_parts(path, info, start)
    with path.open("rb") as file:
        file.seek(start + info.parts["locations"].offset)
        content = io.BytesIO(file.read(info.parts["locations"].size_bytes))
    with np.load(content, allow_pickle=False) as locations:
        class_locations = {int(k): locations[k] for k in locations.files if k != ANNOTATED}
        annotated = locations[ANNOTATED] if ANNOTATED in locations.files else None
    arrays = {
        name: _open_array(path, start + part.offset)
        for name, part in info.parts.items()
        if name != "locations"
    }
    return StoredCase(
        shape_vox=info.placement.resampled_shape_vox,
        image=arrays["image"],
        label=arrays["label"],
        outside_mask=arrays.get("outside"),
        class_locations=class_locations,
        annotated_locations=annotated,
        path=path,
    )


def with_previous(case: StoredCase, mask: Path) -> StoredCase:
    """A case beside the mask that the previous stage of a cascade found, as stored.

    Raises DamagedCaseError as `open_mask` does.
    """
    return replace(case, previous_label=open_mask(mask), previous_path=mask)


def _open_array(path: Path, offset: int) -> Any:
    return blosc2.open(str(path), mode="r", offset=offset, dparams=blosc2.DParams(nthreads=1))


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
