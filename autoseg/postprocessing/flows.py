"""Objects that touch, parted by the ways to their middles that a network learned.

Every voxel steps to the neighbour that lies most in its direction, and on from there; those that
end at one place are one object (Cellpose: Stringer et al. 2021, in voxels instead of small steps,
so that paths of any length are followed by doubling them). Where voxels end at places apart, but
their directions do not part where they meet, these are one object all the same.

How long learned ways are says how sure a network is, and single ones are off; so directions are
means over neighbours, of length 1.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.geometry import Spacing3
from autoseg.postprocessing.smoothing import smoothed
from autoseg.postprocessing.touching import HALF_OF_NEIGHBOURS, Mask, Parts
from autoseg.records import Record

DOUBLINGS = 14  # of paths, of 16,384 voxels then
NO_WAY = 1e-6  # the length of what has no direction
STEPS = [step for step in product((-1, 0, 1), repeat=3) if any(step)]

Vectors = NDArray[np.float32]  # [axis, voxel]


class FlowRule(Record):
    """Which places are two objects: those between whose voxels directions part by at least
    `parting`, on average over where they meet: 1 where they point straight away from each other,
    0 where they are alike. `smoothing` is the width of the Gaussian of which directions are means,
    a standard deviation in voxels of the finest axis."""

    parting: float = Field(default=0.05, ge=0, le=1)
    smoothing: float = Field(default=1.0, ge=0)


@dataclass(frozen=True, slots=True)
class _Voxels:
    """The voxels of a mask, by their numbers in it, with a margin of one around the array."""

    index: NDArray[np.int64]  # [voxel] in the array with its margin
    number: NDArray[np.int32]  # of each index, -1 outside the mask
    strides: NDArray[np.int64]
    flow: Vectors
    spacing_mm: Spacing3

    @classmethod
    def of(cls, mask: Mask, directions: Vectors, spacing_mm: Spacing3) -> "_Voxels":
        wide = np.pad(mask, 1)
        index = np.flatnonzero(wide)
        number = np.full(wide.size, -1, np.int32)
        number[index] = np.arange(len(index), dtype=np.int32)
        strides = np.array([wide.shape[1] * wide.shape[2], wide.shape[2], 1])
        return cls(index, number, strides, directions, spacing_mm)

    def towards(self, step: tuple[int, ...]) -> tuple[NDArray[np.int32], Vectors]:
        """The number of each voxel's neighbour, -1 where there is none, and the unit vector that
        leads there."""
        way_mm = np.multiply(step, self.spacing_mm)
        unit = (way_mm / np.linalg.norm(way_mm)).astype(np.float32)
        return self.number[self.index + int(self.strides @ np.array(step))], unit


def part_by_flow(
    mask: Mask,
    flow: NDArray[np.floating[Any]],
    spacing_mm: Spacing3,
    rule: FlowRule,
    min_voxels: int = 1,
) -> Parts | None:
    """Split a connected mask [z, y, x] by the directions in mm [axis, z, y, x] of its voxels, into
    parts of at least `min_voxels`, where it is as large; None if it is one.

    Takes about 40 bytes a voxel of the mask, and 20 of the box around it.
    """
    voxels = _Voxels.of(mask, _directions(mask, flow, spacing_mm, rule.smoothing), spacing_mm)
    places = _ends(voxels, mask)
    owner = _joined(places, _meetings(voxels, places), rule, min_voxels)
    if not owner.any():
        return None
    parts = np.zeros(mask.shape, np.uint32)
    parts[mask] = owner[places] + 1
    return parts


def _directions(
    mask: Mask, flow: NDArray[np.floating[Any]], spacing_mm: Spacing3, smoothing: float
) -> Vectors:
    """Unit vectors of a mask's voxels, along the means of those around them in the mask."""
    means = np.stack([smoothed(part, mask, spacing_mm, smoothing)[mask] for part in flow])
    directions: Vectors = means / np.maximum(np.linalg.norm(means, axis=0), NO_WAY)
    return directions


def _ends(voxels: _Voxels, mask: Mask) -> NDArray[np.int64]:
    """Which place each voxel's path ends at [voxel], from 0; a place is made of neighbours."""
    own = np.arange(len(voxels.index), dtype=np.int32)
    way, best = own.copy(), np.zeros(len(own), np.float32)
    for step in STEPS:
        there, unit = voxels.towards(step)
        along = unit @ voxels.flow
        nearer = (there >= 0) & (along > best)
        way[nearer], best[nearer] = there[nearer], along[nearer]
    for _ in range(DOUBLINGS):
        way = way[way]
    ends = np.zeros(len(own), np.uint8)
    ends[way] = 1
    there = np.zeros(mask.shape, np.uint8)
    there[mask] = ends
    pieces = cc3d.connected_components(there, connectivity=26, out_dtype=np.uint32)
    places: NDArray[np.int64] = pieces[mask][way].astype(np.int64) - 1
    return places


@dataclass(frozen=True, slots=True)
class _Meetings:
    """Pairs of places whose voxels are neighbours: how much directions part there, summed over so
    many pairs of voxels."""

    pairs: NDArray[np.int64]  # [pair, 2]
    parting: NDArray[np.float64]  # [pair]
    count: NDArray[np.int64]  # [pair]

    def between(self, owner: NDArray[np.int64]) -> "_Meetings":
        """Those of owners of places."""
        sides = np.sort(owner[self.pairs], axis=1)
        apart = sides[:, 0] != sides[:, 1]
        pairs, inverse = np.unique(sides[apart], axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        parting = np.bincount(inverse, self.parting[apart], minlength=len(pairs))
        count = np.bincount(inverse, self.count[apart], minlength=len(pairs))
        return _Meetings(pairs, parting.astype(np.float64), count.astype(np.int64))


def _meetings(voxels: _Voxels, places: NDArray[np.int64]) -> _Meetings:
    found, parting = [], []
    for step in HALF_OF_NEIGHBOURS:
        there, unit = voxels.towards(step)
        meet = np.flatnonzero((there >= 0) & (places != places[there]))
        beside = there[meet]
        found.append(np.stack((places[meet], places[beside]), axis=1))
        parting.append(unit @ (voxels.flow[:, beside] - voxels.flow[:, meet]) / 2)
    pairs = np.concatenate(found)
    each = _Meetings(pairs, np.concatenate(parting), np.ones(len(pairs), np.int64))
    return each.between(np.arange(places.max(initial=0) + 1))


def _joined(
    places: NDArray[np.int64], meetings: _Meetings, rule: FlowRule, min_voxels: int
) -> NDArray[np.int64]:
    """Which object each place is [place]: those that part least are joined first, and what is too
    small with what it parts from least; each once a round, after which meetings are looked at anew.
    """
    sizes = np.bincount(places)
    owner = np.arange(len(sizes))
    while True:
        now = meetings.between(owner)
        small = (np.bincount(owner, sizes)[now.pairs] < min_voxels).any(axis=1)
        mean = now.parting / np.maximum(1, now.count)
        joins = np.flatnonzero(small | (mean < rule.parting))
        if not len(joins):
            return np.unique(owner, return_inverse=True)[1]
        taken: set[int] = set()
        for a, b in now.pairs[joins[np.argsort(mean[joins], kind="stable")]].tolist():
            if a not in taken and b not in taken:
                owner[owner == b] = a
                taken |= {a, b}
