"""Agreement of tubes by their centrelines. Not asked for where a mask is empty."""

import numpy as np

from autoseg.evaluation.mask_pair import MaskPair
from autoseg.evaluation.surfaces import Mask


def cldice(pair: MaskPair) -> float:
    """Harmonic mean of the shares of each mask's centreline that lie in the other mask.

    Shit et al. 2021, with skeletons by Lee et al. 1994, in a single slice by Zhang and Suen 1984.
    A mask that thinning removes altogether, as it does some blocks, is its own centreline.
    """
    predicted, reference = pair.drawn
    precision = _share_of_centreline(predicted, reference)
    sensitivity = _share_of_centreline(reference, predicted)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision else 0.0


def _share_of_centreline(mask: Mask, other: Mask) -> float:
    from skimage.morphology import skeletonize  # takes a while to import

    centreline = skeletonize(mask).astype(bool)
    centreline = centreline if centreline.any() else mask
    return np.count_nonzero(centreline & other) / np.count_nonzero(centreline)
