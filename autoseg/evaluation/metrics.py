"""Measures of agreement between two label maps of one scan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Record


class ClassScore(Record):
    """One class in one case. `dice` is None where neither map has the class.

    Volumes are in millilitres: `volume_ml` of the prediction, and of the reference.
    """

    dice: float | None
    volume_ml: float
    reference_volume_ml: float


def score_classes(
    prediction: NDArray[np.integer[Any]],
    reference: NDArray[np.integer[Any]],
    classes: dict[str, tuple[int, ...]],
    voxel_mm3: float,
) -> dict[str, ClassScore]:
    """Score classes, or regions of several label values, in a pair of maps [z, y, x].

    Dice is 2|A and B| / (|A| + |B|) (Dice 1945). A class that is missing from both maps says
    nothing about the prediction, so it has no Dice; one that is missing from only one has 0.
    """
    scores = {}
    for name, values in classes.items():
        predicted, truth = np.isin(prediction, values), np.isin(reference, values)
        sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
        overlap = int(np.count_nonzero(predicted & truth))
        scores[name] = ClassScore(
            dice=2 * overlap / sum(sizes) if sum(sizes) else None,
            volume_ml=sizes[0] * voxel_mm3 / 1000,
            reference_volume_ml=sizes[1] * voxel_mm3 / 1000,
        )
    return scores
