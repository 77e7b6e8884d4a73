"""A chosen patch's voxels, read into memory that a process has, or shares.

This module needs no torch, so that processes that do nothing but read start at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.augmentation.sample import LABEL, FloatArray, RawSample, SampleAugmentation
from autoseg.geometry import Box
from autoseg.preprocessing.store import StoredCase, StoredPatch, open_case, with_map

ALIGNMENT_BYTES = 64  # of a processor's cache


@dataclass(frozen=True, slots=True)
class ChosenPatch:
    """Where one sample comes from, and what is to happen to it.

    `box` holds all that the augmentation needs; `centre_vox` is the patch's centre inside it.
    """

    case_id: str
    box: Box
    centre_vox: FloatArray
    augmentation: SampleAugmentation


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies in a sample's memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def of(self, memory: memoryview) -> NDArray[Any]:
        return np.frombuffer(memory, self.dtype, prod(self.shape), self.offset).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the arrays of a sample lie in memory, one after the other."""

    image: Place
    label: Place
    outside: Place | None
    maps: Mapping[str, Place]
    objects: Place | None
    size_bytes: int

    @classmethod
    def of(cls, case: StoredCase, box: Box) -> "Layout":
        """That of a box of a case; the image stays as precise as it is stored."""
        shape = tuple(last - first for first, last in zip(box.start, box.stop, strict=True))
        end = 0

        def place(dtype: Any, *lead: int) -> Place:
            nonlocal end
            placed = Place(end, (*lead, *shape), np.dtype(dtype))
            end += (
                -(-prod(placed.shape) * placed.dtype.itemsize // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            )
            return placed

        return cls(
            image=place(case.image.dtype, case.image.shape[0]),
            label=place(np.uint8),
            outside=None if case.outside_mask is None else place(np.bool_),
            maps={kind: place(np.uint8) for kind in case.maps},
            objects=None if case.objects is None else place(np.int32),
            size_bytes=end,
        )

    def patch_in(self, memory: memoryview) -> StoredPatch:
        """The arrays themselves, as they are in some memory."""
        return StoredPatch(
            image=self.image.of(memory),
            label=self.label.of(memory),
            outside=None if self.outside is None else self.outside.of(memory),
            maps={kind: place.of(memory) for kind, place in self.maps.items()},
            objects=None if self.objects is None else self.objects.of(memory),
        )


def read_sample(case: StoredCase, chosen: ChosenPatch) -> RawSample:
    """A chosen patch in memory of its own."""
    patch = case.read(chosen.box)
    return sample_in(patch, chosen, finish_reading(patch, chosen))


def finish_reading(patch: StoredPatch, chosen: ChosenPatch) -> dict[str, NDArray[np.uint8]]:
    """Change maps of other inputs as drawn, in place.

    Returns the classes that label and maps have, where the patch is going to be transformed.
    """
    for kind, values in patch.maps.items():
        from autoseg.networks.inputs import SOURCES  # torch takes seconds to import

        values[:] = SOURCES[kind].simulate(values, chosen.augmentation.mask)
    if chosen.augmentation.matrix is None:
        return {}
    return {kind: _classes_in(v) for kind, v in {LABEL: patch.label, **patch.maps}.items()}


def _classes_in(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The sorted classes of a map, found among the voxels at which runs of equal ones begin."""
    flat = values.reshape(-1)
    begins = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.bincount(flat[begins], minlength=256)
    counts[flat[0]] += 1
    return np.flatnonzero(counts).astype(np.uint8)


def sample_in(
    patch: StoredPatch, chosen: ChosenPatch, classes: Mapping[str, NDArray[np.uint8]]
) -> RawSample:
    """A patch that has been read, with what is to happen to it."""
    return RawSample(
        case_id=chosen.case_id,
        image=patch.image,
        label=patch.label,
        outside=patch.outside,
        maps=patch.maps,
        centre_vox=chosen.centre_vox,
        augmentation=chosen.augmentation,
        classes=classes,
        objects=patch.objects,
    )


def closed_case(case: StoredCase) -> StoredCase:
    """A case to be sent to a process: without class locations, nor voxels that it has a path to."""
    case = replace(case, class_locations={}, annotated_locations=None)
    if case.path is None:
        return case
    return replace(case, image=None, label=None, outside_mask=None, maps={}, objects=None)


def opened_case(case: StoredCase) -> StoredCase:
    """The case that was sent, opened."""
    if case.path is None:
        return case
    opened = open_case(case.path)
    for kind, path in case.map_paths.items():
        opened = with_map(opened, kind, path)
    return opened
