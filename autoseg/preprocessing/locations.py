"""Voxels to centre patches on: some of each class, and of all that is annotated."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import IGNORED
from autoseg.preprocessing.prepared_case import Voxels

MINIMUM_LOCATIONS = 10_000  # of each class, or a hundredth of its voxels if that is more
LOCATION_FRACTION = 0.01


@dataclass(frozen=True, slots=True)
class Locations:
    """Sampled voxels [n, 3] of classes or regions, and of all that is annotated unless all is."""

    classes: dict[int, Voxels]
    annotated: Voxels | None


def sample_locations(
    label: NDArray[np.uint8] | None, regions: Sequence[tuple[int, ...]], case_id: str
) -> Locations:
    """Voxels sampled without replacement, the same in every run."""
    if label is None:
        return Locations({}, None)
    rng = np.random.default_rng(zlib.crc32(case_id.encode()))
    flat = np.flatnonzero(label)
    present = label.ravel()[flat]
    if regions:
        of_each = {index: np.isin(present, classes) for index, classes in enumerate(regions)}
    else:
        values = np.unique(present[present != IGNORED]).tolist()
        of_each = {value: present == value for value in values}
    classes = {
        index: _sample_voxels(flat[voxels], label.shape, rng)
        for index, voxels in of_each.items()
        if voxels.any()
    }
    if not (present == IGNORED).any():
        return Locations(classes, None)
    annotated = np.flatnonzero(label != IGNORED)
    return Locations(classes, _sample_voxels(annotated, label.shape, rng))


def _sample_voxels(
    voxels: NDArray[np.intp], shape: tuple[int, ...], rng: np.random.Generator
) -> Voxels:
    count = min(len(voxels), max(MINIMUM_LOCATIONS, int(len(voxels) * LOCATION_FRACTION)))
    chosen = np.sort(rng.choice(voxels, count, replace=False))
    coordinates = np.stack(np.unravel_index(chosen, shape), axis=1)
    return coordinates.astype(np.min_scalar_type(max(shape)))
