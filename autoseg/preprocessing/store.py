"""Prepared cases on disk: a file each, chunked, compressed, checksummed, read by the patch.

A file begins with eight known bytes, then length (64 bits) and checksum (CRC-32) of the JSON that
follows, both unsigned and little-endian; after the JSON lie the parts that it lists.
"""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from autoseg.errors import AutosegError
from autoseg.geometry import Box, Placement
from autoseg.preprocessing.parts import (
    REMEDY,
    DamagedCaseError,
    PackedPart,
    Pieces,
    StoredArray,
    StoredPart,
    StoredVoxels,
    pack_array,
    pack_voxels,
)
from autoseg.preprocessing.prepared_case import PreparedCase, VoxelList
from autoseg.records import Record, replacing

SUFFIX = ".prepared"
MAGIC = b"ASEGPREP"
LENGTH_AND_CHECKSUM = "<QI"
PREFIX_BYTES = len(MAGIC) + struct.calcsize(LENGTH_AND_CHECKSUM)
SMALLEST_SPREAD, LARGEST_HALF = 0.01, 60_000.0  # what half precision can tell apart, and hold
LARGEST_IN_SPREADS = 100.0  # standard deviations, so that its steps stay below a twentieth of one

ANNOTATED = "annotated voxels"


class SourceFile(Record):
    """Enough of a file to notice that it changed."""

    path: str
    size_bytes: int
    modified_ns: int

    def is_same_file(self, other: "SourceFile") -> bool:
        """Whether it is the other, wherever the folder that holds it lies now."""
        own, others = Path(self.path).name, Path(other.path).name
        return (own, self.size_bytes, self.modified_ns) == (
            others, other.size_bytes, other.modified_ns
        )  # fmt: skip


class StoredCaseInfo(Record):
    """The text at the beginning of a stored case."""

    sources: tuple[SourceFile, ...]
    placement: Placement
    arrays: dict[str, StoredPart]
    class_locations: dict[int, StoredPart]
    annotated_locations: StoredPart | None

    def parts(self) -> Iterator[tuple[str, StoredPart]]:
        """All parts, with their names in messages."""
        yield from self.arrays.items()
        for value, part in self.class_locations.items():
            yield _name_of_class(value), part
        if self.annotated_locations is not None:
            yield ANNOTATED, self.annotated_locations


@dataclass(frozen=True, slots=True)
class StoredPatch:
    """A box of a stored case: image [channel, z, y, x], the others [z, y, x] as prepared; `maps` of
    class indices are the network's other inputs, by their kind; `objects` are numbered."""

    image: NDArray[np.floating[Any]]
    label: NDArray[np.uint8]
    outside: NDArray[np.bool_] | None
    maps: dict[str, NDArray[np.uint8]]
    objects: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case on disk, opened: patches and voxels are read, and checked, when asked for.

    Other processes can open it again by `path`, and its maps by `map_paths`.
    """

    shape_vox: tuple[int, ...]
    image: Any  # a StoredArray, or a numpy one once loaded
    label: Any
    outside_mask: Any | None
    class_locations: Mapping[int, VoxelList]
    annotated_locations: VoxelList | None = None
    maps: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    map_paths: Mapping[str, Path] = field(default_factory=dict)
    objects: Any | None = None

    @property
    def bytes_in_memory(self) -> int:
        """What the case takes once loaded."""
        arrays = (self.image, self.label, self.outside_mask, self.objects, *self.maps.values())
        return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in arrays if a is not None)

    def loaded(self) -> "StoredCase":
        """The same case with all its voxels in memory."""
        return replace(
            self,
            image=self.image[:],
            label=self.label[:],
            outside_mask=None if self.outside_mask is None else self.outside_mask[:],
            maps={kind: values[:] for kind, values in self.maps.items()},
            objects=None if self.objects is None else self.objects[:],
        )

    def read(self, box: Box) -> StoredPatch:
        """What lies inside a box, as `read_into` has it; the image as precise as it is stored."""
        shape = tuple(last - first for first, last in zip(box.start, box.stop, strict=True))
        patch = StoredPatch(
            image=np.empty((self.image.shape[0], *shape), self.image.dtype),
            label=np.empty(shape, np.uint8),
            outside=None if self.outside_mask is None else np.empty(shape, np.bool_),
            maps={kind: np.empty(shape, np.uint8) for kind in self.maps},
            objects=None if self.objects is None else np.empty(shape, np.int32),
        )
        self.read_into(box, patch)
        return patch

    def read_into(self, box: Box, target: StoredPatch) -> None:
        """Fill arrays with what lies inside a box, which may leave the case.

        Voxels beyond the border are 0, background, and outside.
        """
        there, here = [], []  # in the case, and in the box
        for first, last, size in zip(box.start, box.stop, self.shape_vox, strict=True):
            inside = slice(min(max(first, 0), size), min(max(last, 0), size))
            there.append(inside)
            here.append(slice(inside.start - first, inside.stop - first))
        _fill(target.image, here, self.image[:, *there])
        _fill(target.label, here, self.label[*there])
        for kind, values in self.maps.items():
            _fill(target.maps[kind], here, values[*there])
        if target.objects is not None and self.objects is not None:
            _fill(target.objects, here, self.objects[*there])
        if target.outside is not None and self.outside_mask is not None:
            _fill(target.outside, here, self.outside_mask[*there] > 0, beyond=True)


def _fill(
    target: NDArray[Any], box: Sequence[slice], values: NDArray[Any], beyond: bool = False
) -> None:
    """Put values [..., z, y, x] into a box of an array, and one value around it."""
    if target.shape != values.shape:
        target[:] = beyond
    place: tuple[Any, ...] = (..., *box)
    target[place] = values


def write_case(
    path: Path, case: PreparedCase, sources: tuple[SourceFile, ...], spatial_dims: int
) -> None:
    """Store a prepared case as one file; it appears whole and read back, or not at all.

    With two spatial dimensions it is laid out to be read by the slice, else by the box.
    """
    assert case.label is not None
    arrays: dict[str, NDArray[Any]] = {"image": _smaller(case.image), "label": case.label}
    if case.outside_mask is not None:
        arrays["outside"] = case.outside_mask.astype(np.uint8)
    if case.objects is not None:
        arrays["objects"] = case.objects
    spacing_mm = case.placement.target_spacing_mm[-spatial_dims:]
    packed = {name: pack_array(array, spacing_mm) for name, array in arrays.items()}
    for value, voxels in case.class_locations.items():
        packed[_name_of_class(value)] = pack_voxels(voxels)
    if case.annotated_locations is not None:
        packed[ANNOTATED] = pack_voxels(case.annotated_locations)
    placed = _placed(packed)
    info = StoredCaseInfo(
        sources=sources,
        placement=case.placement,
        arrays={name: placed[name] for name in arrays},
        class_locations={value: placed[_name_of_class(value)] for value in case.class_locations},
        annotated_locations=placed.get(ANNOTATED),
    )
    _write(path, info, packed.values())


def write_mask(
    path: Path,
    classes: NDArray[np.uint8],
    placement: Placement,
    sources: tuple[SourceFile, ...],
    spatial_dims: int,
) -> None:
    """Store class indices [z, y, x] alone, as `write_case` stores a whole case."""
    packed = {"label": pack_array(classes, placement.target_spacing_mm[-spatial_dims:])}
    info = StoredCaseInfo(
        sources=sources,
        placement=placement,
        arrays=_placed(packed),
        class_locations={},
        annotated_locations=None,
    )
    _write(path, info, packed.values())


def open_mask(path: Path) -> StoredArray:
    """Class indices [z, y, x] as `write_mask` stored them, to be read by the patch.

    Raises DamagedCaseError when the beginning of the file is not what was written.
    """
    info, start = _read_info(path)
    return _open_array(path, "label", info.arrays["label"], start)


def is_stored(path: Path, sources: tuple[SourceFile, ...]) -> bool:
    """Whether a case is stored that was made from these files; from any, where none are given."""
    try:
        stored = _read_info(path)[0].sources
    except (FileNotFoundError, DamagedCaseError):
        return False
    if not sources:
        return True
    return len(stored) == len(sources) and all(map(SourceFile.is_same_file, stored, sources))


def stored_placement(path: Path) -> Placement:
    """The way back of a stored case. Raises DamagedCaseError when it is none."""
    return _read_info(path)[0].placement


def open_case(path: Path) -> StoredCase:
    """Open a stored case for reading patches.

    Raises DamagedCaseError when the beginning of the file, or its length, is not what was written;
    so does reading what is damaged.
    """
    info, start = _read_info(path)
    arrays = {name: _open_array(path, name, part, start) for name, part in info.arrays.items()}
    annotated = info.annotated_locations
    return StoredCase(
        shape_vox=info.placement.resampled_shape_vox,
        image=arrays["image"],
        label=arrays["label"],
        outside_mask=arrays.get("outside"),
        class_locations={
            value: _open_voxels(path, _name_of_class(value), part, start)
            for value, part in info.class_locations.items()
        },
        annotated_locations=(
            None if annotated is None else _open_voxels(path, ANNOTATED, annotated, start)
        ),
        path=path,
        objects=arrays.get("objects"),
    )


def with_map(case: StoredCase, kind: str, path: Path) -> StoredCase:
    """A case beside a map of class indices that `write_mask` stored, an input of some kind.

    Raises DamagedCaseError as `open_mask` does.
    """
    return replace(
        case,
        maps={**case.maps, kind: open_mask(path)},
        map_paths={**case.map_paths, kind: path},
    )


def verify_case(path: Path) -> None:
    """Read all of a stored case or mask. Raises DamagedCaseError unless it is what was written."""
    info, start = _read_info(path)
    for name, part in info.parts():
        Pieces.of(path, name, part, start).check(range(len(part.crc32)))


def _name_of_class(value: int) -> str:
    return f"voxels of class {value}"


def _placed(packed: Mapping[str, PackedPart]) -> dict[str, StoredPart]:
    offsets = itertools.accumulate((len(part.content) for part in packed.values()), initial=0)
    return {
        name: part.at(offset) for (name, part), offset in zip(packed.items(), offsets, strict=False)
    }


def _write(path: Path, info: StoredCaseInfo, packed: Iterable[PackedPart]) -> None:
    text = info.model_dump_json().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, synced=False) as partial:  # it can be made again
        with partial.open("wb") as file:
            file.write(MAGIC + struct.pack(LENGTH_AND_CHECKSUM, len(text), zlib.crc32(text)) + text)
            for part in packed:
                file.write(part.content)
        try:
            verify_case(partial)
        except DamagedCaseError as damage:
            raise AutosegError(
                f"{path}: read back it is not what was written. Check disk and memory."
            ) from damage


def _open_array(path: Path, name: str, part: StoredPart, start: int) -> StoredArray:
    return StoredArray(Pieces.of(path, name, part, start), part.shape, np.dtype(part.dtype))


def _open_voxels(path: Path, name: str, part: StoredPart, start: int) -> StoredVoxels:
    return StoredVoxels(Pieces.of(path, name, part, start), part.shape[0], np.dtype(part.dtype))


def _read_info(path: Path) -> tuple[StoredCaseInfo, int]:
    """The text of a stored case, and where its parts begin."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(PREFIX_BYTES)
        if len(start) < PREFIX_BYTES or not start.startswith(MAGIC):
            raise DamagedCaseError(f"{path}: is no prepared case. {REMEDY}")
        length, checksum = struct.unpack(LENGTH_AND_CHECKSUM, start[len(MAGIC) :])
        text = file.read(min(length, size_bytes))
    if zlib.crc32(text) != checksum:
        raise DamagedCaseError(f"{path}: its description is damaged. {REMEDY}")
    try:
        info = StoredCaseInfo.model_validate_json(text)
    except ValidationError:
        raise DamagedCaseError(f"{path}: another version of autoseg wrote it. {REMEDY}") from None
    end = PREFIX_BYTES + length
    if size_bytes != end + sum(part.size_bytes for _, part in info.parts()):
        raise DamagedCaseError(f"{path}: its length is not what was written. {REMEDY}")
    return info, end


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
