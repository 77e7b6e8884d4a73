"""Prepared cases on disk: chunked, compressed, read by the patch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Box, Placement
from autoseg.records import Record, load_record, replacing, save_record

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
    class_locations: dict[int, NDArray[np.uint16]]
    placement: Placement


class SourceFile(Record):
    """Enough of a file to notice that it changed."""

    path: str
    size_bytes: int
    modified_ns: int


class StoredCaseInfo(Record):
    """What stands beside a stored case's arrays."""

    sources: tuple[SourceFile, ...]
    placement: Placement
    has_outside_mask: bool


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case on disk, opened: patches are read when asked for."""

    shape_vox: tuple[int, ...]
    image: Any  # blosc2 arrays, or numpy ones once loaded
    label: Any
    outside_mask: Any | None
    class_locations: dict[int, NDArray[np.uint16]]

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
        image = np.pad(self.image[:, *inside], [(0, 0), *padding])
        label = np.pad(self.label[*inside], padding)
        if self.outside_mask is None:
            return image, label, None
        outside = np.pad(self.outside_mask[*inside] > 0, padding, constant_values=True)
        return image, label, outside


def write_case(folder: Path, case: PreparedCase, sources: tuple[SourceFile, ...]) -> None:
    """Store a prepared case as a folder; it appears whole or not at all."""
    assert case.label is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as partial:
        partial.mkdir()
        _write_array(partial / "image.b2nd", case.image)
        _write_array(partial / "label.b2nd", case.label)
        if case.outside_mask is not None:
            _write_array(partial / "outside.b2nd", case.outside_mask.astype(np.uint8))
        locations: dict[str, Any] = {str(k): v for k, v in case.class_locations.items()}
        np.savez(partial / "locations.npz", **locations)
        info = StoredCaseInfo(
            sources=sources,
            placement=case.placement,
            has_outside_mask=case.outside_mask is not None,
        )
        save_record(info, partial / "case.json")


def stored_sources(folder: Path) -> tuple[SourceFile, ...] | None:
    """The source files that a stored case was made from; None when it is not stored."""
    info = folder / "case.json"
    return load_record(StoredCaseInfo, info).sources if info.exists() else None


def open_case(folder: Path) -> StoredCase:
    """Open a stored case for reading patches."""
    info = load_record(StoredCaseInfo, folder / "case.json")
    with np.load(folder / "locations.npz", allow_pickle=False) as locations:
        class_locations = {int(key): locations[key] for key in locations.files}
    outside = _open_array(folder / "outside.b2nd") if info.has_outside_mask else None
    return StoredCase(
        shape_vox=info.placement.resampled_shape_vox,
        image=_open_array(folder / "image.b2nd"),
        label=_open_array(folder / "label.b2nd"),
        outside_mask=outside,
        class_locations=class_locations,
    )


def _write_array(path: Path, array: NDArray[Any]) -> None:
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(CHUNK_EDGE_VOX, size) for size in array.shape[-3:])
    blocks = lead + tuple(min(BLOCK_EDGE_VOX, size) for size in array.shape[-3:])
    blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=blocks,
        urlpath=str(path),
        mode="w",
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1),
        dparams=blosc2.DParams(nthreads=1),
    )


def _open_array(path: Path) -> Any:
    return blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
