"""Means over cases and classes, and how far they would be off with other patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.statistics import Means, mean_of_known, resample_means
from autoseg.records import Record

Scores = NDArray[np.float64]  # [case, class], NaN where undefined


class Interval(Record):
    """A 95 % confidence interval, by the bootstrap over patients."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def class_means(scores: Scores) -> NDArray[np.float64]:
    """Over the cases where a class is defined; NaN for one that is so nowhere."""
    return np.asarray(mean_of_known(scores, 0), np.float64)


def overall(scores: Scores) -> float:
    """The mean over classes of their means over cases, as far as there are any."""
    return float(mean_of_known(class_means(scores), 0))


@dataclass(frozen=True, slots=True)
class Patients:
    """The patient of each case: all scans of one are drawn together."""

    names: tuple[str, ...]  # [case]

    @classmethod
    def of(cls, patients: Sequence[str]) -> "Patients":
        return cls(tuple(patients))

    def means(self, scores: Scores) -> Means:
        """`overall`, also with other patients; the same ones for every call."""
        return resample_means(scores[..., None], self.names).over_classes()

    def standard_error(self, scores: Scores) -> float:
        return float(np.nanstd(self.means(scores).resampled, ddof=1))

    def interval(self, scores: Scores) -> Interval:
        return _interval(self.means(scores))

    def gain(self, before: Scores, after: Scores) -> Interval:
        """Of the paired difference: both are of the same resamples."""
        return _interval(self.means(after).minus(self.means(before)))


def _interval(means: Means) -> Interval:
    """Nothing but the value itself, where a single patient has a score."""
    low, high = np.where(means.patients > 1, means.intervals(), means.value).ravel().tolist()
    return Interval(low=low, high=high)
