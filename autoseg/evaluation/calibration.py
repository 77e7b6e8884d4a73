"""Whether probabilities are what they say, voxel by voxel.

Looked at are the annotated voxels of the box that holds the class in either mask: over a whole scan
the background, of which every network is sure, would hide all else. Where no volume is held, as of
`Reliability`, it is the box of the reference, and all of the scan above the lowest bin.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.mask_pair import MaskPair
from autoseg.records import Record

BINS = 15  # as in Guo 2017


class Reliability(Record):
    """Of one class, or region, in bins of its probability that are equally wide, from 0 to 1: how
    many voxels, the sum of their probabilities, and how many of them have the class."""

    name: str
    voxels: tuple[int, ...]
    probability: tuple[float, ...]
    with_class: tuple[int, ...]

    @classmethod
    def of(cls, name: str, counts: NDArray[np.float64]) -> "Reliability":
        """The three as rows [3, bin]."""
        voxels, probability, with_class = counts
        return cls(
            name=name,
            voxels=tuple(int(count) for count in voxels),
            probability=tuple(round(float(total), 3) for total in probability),
            with_class=tuple(int(count) for count in with_class),
        )

    @property
    def counts(self) -> NDArray[np.float64]:
        return np.array([self.voxels, self.probability, self.with_class], np.float64)

    @property
    def calibration_error(self) -> float | None:
        """As `expected_calibration_error`; None without voxels."""
        voxels, expected, seen = self.counts
        return float(np.abs(expected - seen).sum() / voxels.sum()) if voxels.any() else None


def pool_reliability(cases: Sequence[Sequence[Reliability]]) -> tuple[Reliability, ...]:
    """All voxels of several cases together; each case has the same classes."""
    return tuple(
        Reliability.of(own[0].name, np.sum([one.counts for one in own], axis=0))
        for own in zip(*cases, strict=True)
    )


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
