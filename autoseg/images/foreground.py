"""The part of a scan that holds anything: its non-zero mask and the box around it."""

import fill_voids
import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Box


def nonzero_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels [z, y, x] where any channel of [channel, z, y, x] is not 0, holes filled in 3D."""
    mask: NDArray[np.bool_] = (image != 0).any(axis=0)
    if not mask.all():
        # Transposed, since the library copies arrays that are not in Fortran order.
        mask = np.asarray(fill_voids.fill(mask.T), dtype=np.bool_).T
    return mask


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around the true voxels; the whole array when there are none."""
    if not mask.any():
        return Box(start=(0,) * mask.ndim, stop=mask.shape)
    start, stop = [], []
    for axis in range(mask.ndim):
        other_axes = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=other_axes))
        start.append(int(occupied[0]))
        stop.append(int(occupied[-1]) + 1)
    return Box(start=tuple(start), stop=tuple(stop))
