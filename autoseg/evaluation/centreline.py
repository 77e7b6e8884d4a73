"""Agreement of tubes by their centrelines. Not asked for where a mask is empty."""

import math

import numpy as np
from scipy import ndimage

from autoseg.evaluation.mask_pair import MaskPair
from autoseg.evaluation.objects import number_objects
from autoseg.evaluation.surfaces import Mask

SETTING_UP_VOX = 1000  # voxels that could be thinned while a box is being set up


def cldice(pair: MaskPair) -> float:
    """Harmonic mean of the shares of each mask's centreline that lie in the other mask.

    Shit et al. 2021, with skeletons by Lee et al. 1994, in a single slice by Zhang and Suen 1984.
    A mask that thinning removes altogether, as it does some blocks, is its own centreline.
    """
    predicted, reference = pair.drawn
    precision = _share_of_centreline(predicted, reference)
    sensitivity = _share_of_centreline(reference, predicted)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision else 0.0


def centreline_of(mask: Mask) -> Mask:
    """What thinning leaves of a mask [z, y, x] or [y, x].

    Each pass of thinning looks at the whole array, as often as the thickest component is thick. So
    each component is thinned in its box where that is less work, which changes nothing: a voxel is
    judged by its neighbours, and components have none in common.
    """
    from skimage.morphology import skeletonize  # takes a while to import

    if mask.ndim == 2:
        return np.asarray(skeletonize(mask), bool)
    numbers = number_objects(mask)
    boxes = {n: box for n, box in enumerate(ndimage.find_objects(numbers), 1) if _size(box) > 1}
    if sum(SETTING_UP_VOX + _size(box) for box in boxes.values()) > mask.size:
        return np.asarray(skeletonize(mask), bool)
    centreline = mask.copy()  # single voxels stay
    for number, box in boxes.items():
        own = numbers[box] == number
        centreline[box] &= ~own | np.asarray(skeletonize(own), bool)
    return centreline


def _size(box: tuple[slice, ...]) -> int:
    return math.prod(part.stop - part.start for part in box)


def _share_of_centreline(mask: Mask, other: Mask) -> float:
    centreline = centreline_of(mask)
    centreline = centreline if centreline.any() else mask
    return np.count_nonzero(centreline & other) / np.count_nonzero(centreline)
