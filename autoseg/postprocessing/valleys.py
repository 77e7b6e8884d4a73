"""Objects that touch, parted in the valleys of a depth that a network learned.

Maxima of the depth are objects if they stand out enough from the saddles between them, as in
`touching`; but the valley itself is where the network saw the border, so voxels go to the maximum
that the way up leads to: a watershed (Beucher and Lantuejoul 1979). Single voxels of what a network
learned are off, so the depth is that of means over neighbours.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.geometry import Spacing3
from autoseg.postprocessing.smoothing import smoothed
from autoseg.postprocessing.touching import (
    Mask,
    Parts,
    absorb_smallest,
    find_basins,
    find_saddles,
    join_basins,
)
from autoseg.records import Record

SHALLOWEST = 1e-3  # of what lies inside, since a network may predict less than nothing


class ValleyRule(Record):
    """Which valley parts two objects: one below the smaller object's depth by `prominence` of it,
    and by `min_prominence` of the depth at which all objects count as equally deep. `smoothing` is
    the width of the Gaussian of the means, a standard deviation in voxels of the finest axis."""

    prominence: float = Field(default=0.25, ge=0, le=1)
    min_prominence: float = Field(default=0.02, ge=0, le=1)
    smoothing: float = Field(default=1.0, ge=0)


def part_at_valleys(
    mask: Mask,
    depth: NDArray[np.floating[Any]],
    spacing_mm: Spacing3,
    rule: ValleyRule,
    min_voxels: int = 1,
) -> Parts | None:
    """Split a connected mask [z, y, x] by the depth [z, y, x] of its voxels, from 0 to 1, into
    parts of at least `min_voxels`, each connected; None if it is one.

    Takes about 40 bytes a voxel of the box around the mask.
    """
    depth = smoothed(depth, mask, spacing_mm, rule.smoothing)
    inside = np.clip(depth, SHALLOWEST, None) * mask
    basins = find_basins(inside, mask)
    count = len(basins.peaks_mm)
    if count == 1:
        return None
    saddles = find_saddles(inside, basins.numbers, count)
    least = np.maximum(rule.prominence * basins.peaks_mm, rule.min_prominence)
    owner = join_basins(basins, saddles, least)
    while owner.any():
        voxels = np.bincount(owner, basins.voxels)
        if voxels.min() >= min_voxels:
            table = np.concatenate(([0], owner + 1)).astype(np.uint32)
            parts: Parts = table[basins.numbers]
            return parts
        owner = absorb_smallest(owner, int(voxels.argmin()), saddles)
    return None
