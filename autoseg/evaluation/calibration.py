"""Whether probabilities are what they say, voxel by voxel.

Looked at are the annotated voxels of the box that holds the class in either mask: over a whole scan
the background, of which every network is sure, would hide all else.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.mask_pair import MaskPair

BINS = 15  # as in Guo 2017


def expected_calibration_error(pair: MaskPair) -> float | None:
    """Mean distance of a class's probability from how often the class is there (Naeini 2015).

    Voxels are grouped by probability into 15 bins of equal width; a bin weighs as many voxels as it
    has. None without probabilities.
    """
    if pair.probability is None:
        return None
    probability, there = _voxels(pair)
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    expected = np.bincount(bins, probability, BINS)
    seen = np.bincount(bins, there, BINS)
    return float(np.abs(expected - seen).sum() / len(probability))


def brier_score(pair: MaskPair) -> float | None:
    """Mean square of probability less truth, 1 or 0 (Brier 1950). None without probabilities."""
    if pair.probability is None:
        return None
    probability, there = _voxels(pair)
    return float(np.mean((probability - there) ** 2))


def _voxels(pair: MaskPair) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """The probability of the class in each voxel, and whether the class is there."""
    assert pair.probability is not None
    if pair.annotated is None:
        return pair.probability.reshape(-1).astype(np.float32), pair.reference.reshape(-1)
    inside = pair.annotated
    return pair.probability[inside].astype(np.float32), pair.reference[inside]
