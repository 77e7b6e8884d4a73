"""How far objects reach: the largest distance between two of their voxels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAT = 1e-6  # an extent that is so much smaller than the largest is none

Points = NDArray[np.float64]


def feret_diameter_mm(mask: NDArray[np.bool_], steps_mm: Points) -> float:
    """The largest distance between the centres of two voxels of a mask [z, y, x] (Feret's maximum
    diameter), 0 of a single voxel.

    `steps_mm` [axis, mm] are where a step along z, y and x leads, so that axes may be oblique.
    """
    from scipy.spatial.distance import pdist  # takes half a second to import

    corners = _corners(_ends_of_rows(mask) @ steps_mm)
    return float(pdist(corners).max()) if len(corners) > 1 else 0.0


def _ends_of_rows(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first and last voxel [voxel, axis] of every row along x: no other can be farthest."""
    z, y = np.nonzero(mask.any(axis=2))
    rows = mask[z, y]
    first, last = rows.argmax(axis=1), mask.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack((z, y, x)) for x in (first, last)])


def _corners(points: Points) -> Points:
    """Those of some points [point, mm] that their hull has, in as many dimensions as they fill."""
    from scipy.spatial import ConvexHull

    around: NDArray[Any] = points - points.mean(axis=0)
    _, extents, ways = np.linalg.svd(around, full_matrices=False)
    wide = int((extents > FLAT * max(extents[0], FLAT)).sum())
    if wide < 2:
        along = around @ ways[0]
        return points[[along.argmin(), along.argmax()]]
    corners: Points = points[ConvexHull(around @ ways[:wide].T).vertices]
    return corners
