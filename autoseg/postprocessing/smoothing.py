"""Means over neighbours in a mask, of what networks learned: single voxels are off."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Spacing3
from autoseg.postprocessing.touching import Mask


def known_spacing_mm(spacing_mm: Spacing3, shape_vox: Sequence[int]) -> Spacing3:
    """The spacing, along the axis of a single slice that of the finest other one: how thick such a
    slice is, nobody knows."""
    wide = [mm for mm, size in zip(spacing_mm, shape_vox, strict=True) if size > 1]
    finest_mm = min(wide, default=min(spacing_mm))
    sizes = zip(spacing_mm, shape_vox, strict=True)
    z, y, x = (mm if size > 1 else finest_mm for mm, size in sizes)
    return z, y, x


def smoothed(
    values: NDArray[np.floating[Any]], mask: Mask, spacing_mm: Spacing3, width: float
) -> NDArray[np.float32]:
    """Values [z, y, x] as Gaussian means of those around them in a mask, 0 outside; `width` is a
    standard deviation in voxels of the finest axis. Takes 12 bytes a voxel."""
    from scipy.ndimage import gaussian_filter  # takes half a second to import

    sigma_vox = width * min(spacing_mm) / np.array(spacing_mm)
    weight = gaussian_filter(mask.astype(np.float32), sigma_vox)
    total = gaussian_filter(np.where(mask, values, 0).astype(np.float32), sigma_vox)
    found: NDArray[np.float32] = np.divide(total, weight, out=np.zeros_like(total), where=mask)
    return found
