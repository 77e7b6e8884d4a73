"""Errors that a first stage might have made, added to the masks that a second stage learns from."""

from collections.abc import Callable

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from autoseg.augmentation.sample import MaskAugmentation

Mask = NDArray[np.bool_]


def change_mask(classes: NDArray[np.uint8], drawn: MaskAugmentation) -> NDArray[np.uint8]:
    """Class indices [z, y, x] with every class grown, shrunk, opened or closed, or with one
    component of every class gone.

    Which of the four, and which component, is drawn for each class. As in nnU-Net v2's cascade a
    class that grows takes the place of others, and only small components are lost.
    """
    rng = np.random.default_rng(drawn.seed)
    changed = classes.copy()
    present = [int(value) for value in np.unique(classes) if value]
    if drawn.radius_vox:
        for value in present:
            operation = OPERATIONS[rng.integers(len(OPERATIONS))]
            before = changed == value
            after = operation(before, drawn.radius_vox)
            changed[before & ~after] = 0
            changed[after] = value
    if drawn.loses_component:
        for value in present:
            components = cc3d.connected_components(changed == value, connectivity=26)
            sizes = np.bincount(components.ravel())
            small = [i for i in range(1, len(sizes)) if sizes[i] < drawn.largest_lost_vox]
            if small:
                changed[components == small[rng.integers(len(small))]] = 0
    return changed


def grow(mask: Mask, radius_vox: float) -> Mask:
    """Dilation by a ball."""
    if not mask.any():
        return mask
    grown: Mask = edt.edt(~mask) <= radius_vox
    return grown


def shrink(mask: Mask, radius_vox: float) -> Mask:
    """Erosion by a ball; what lies beyond the border counts as part of the mask."""
    return ~grow(~mask, radius_vox)


def close(mask: Mask, radius_vox: float) -> Mask:
    return shrink(grow(mask, radius_vox), radius_vox)


def open_up(mask: Mask, radius_vox: float) -> Mask:
    return grow(shrink(mask, radius_vox), radius_vox)


OPERATIONS: tuple[Callable[[Mask, float], Mask], ...] = (grow, shrink, close, open_up)
