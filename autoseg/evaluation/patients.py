"""Means over cases and classes, and how far they would be off with other patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Record

RESAMPLES = 2000
SEED = 0
CONFIDENCE = 0.95

Scores = NDArray[np.float64]  # [case, class], NaN where undefined


class Interval(Record):
    """A percentile interval of the bootstrap over patients, of 95 %."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def class_means(scores: Scores) -> NDArray[np.float64]:
    """Over the cases where a class is defined; NaN for one that is so nowhere."""
    return np.array([_mean(column) for column in scores.T])


def overall(scores: Scores) -> float:
    """The mean over classes of their means over cases, as far as there are any."""
    return _mean(class_means(scores))


def _mean(values: NDArray[np.float64]) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


@dataclass(frozen=True, slots=True)
class Patients:
    """Resamples of patients: all scans of one are drawn together (cluster bootstrap, Davison and
    Hinkley 1997, section 3.8)."""

    of_case: NDArray[np.intp]  # [case], the patient's number
    drawn: NDArray[np.float64]  # [resample, patient], how often

    @classmethod
    def of(cls, patients: Sequence[str]) -> "Patients":
        """From the patient of each case."""
        names, of_case = np.unique(np.asarray(patients), return_inverse=True)
        rng = np.random.default_rng(SEED)
        equal = np.full(len(names), 1 / len(names))
        return cls(of_case, rng.multinomial(len(names), equal, RESAMPLES).astype(float))

    def resampled(self, scores: Scores) -> NDArray[np.float64]:
        """`overall` of each resample; the same patients are drawn for every call."""
        known = ~np.isnan(scores)
        shape = (self.drawn.shape[1], scores.shape[1])
        sums, counts = np.zeros(shape), np.zeros(shape)  # [patient, class]
        np.add.at(sums, self.of_case, np.where(known, scores, 0))
        np.add.at(counts, self.of_case, known)
        with np.errstate(invalid="ignore"):
            means = (self.drawn @ sums) / (self.drawn @ counts)  # [resample, class]
        defined = ~np.isnan(means)
        total = np.where(defined, means, 0).sum(1)
        overall_means: NDArray[np.float64] = total / np.maximum(1, defined.sum(1))
        return overall_means

    def standard_error(self, scores: Scores) -> float:
        return float(self.resampled(scores).std(ddof=1))

    def interval(self, scores: Scores) -> Interval:
        return _interval(self.resampled(scores))

    def gain(self, before: Scores, after: Scores) -> Interval:
        """Of the paired difference: both are of the same resamples."""
        return _interval(self.resampled(after) - self.resampled(before))


def _interval(values: NDArray[np.float64]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(low=float(low), high=float(high))
