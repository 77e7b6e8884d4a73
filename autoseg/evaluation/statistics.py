"""Scores of many cases in a few numbers, and how sure their means are.

Arrays have a row for each case; NaN is a score that is not defined.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Record

Floats = NDArray[np.floating[Any]]
Method = Literal["bca", "percentile"]

RESAMPLES = 5000
SEED = 0
LEVEL = 0.95
FEWEST_PATIENTS = 30  # with fewer, intervals are too narrow
DEFAULT_METHOD: Method = "bca"
DRAWN_AT_ONCE = 2**22  # numbers, so that memory is bounded whatever the number of patients
PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NORMAL = NormalDist()


class Counts(Record):
    """In how many cases a class is in neither mask, or in one alone: the reference's (missed), or
    the prediction's (hallucinated)."""

    cases: int
    both_empty: int
    missed: int
    hallucinated: int


class Statistics(Record):
    """Of one metric over cases; None where too few of them have a score.

    `defined` cases have one, of so many `patients`. The `penalised_mean` is over these and those
    where the class is in one mask alone, which then count with the metric's penalty.
    `standard_deviation` is that of cases, with n - 1. The interval is that of the mean.
    """

    defined: int
    patients: int
    mean: float | None
    interval_95: tuple[float, float] | None
    penalised_mean: float | None
    standard_deviation: float | None
    percentile_5: float | None
    percentile_25: float | None
    median: float | None
    percentile_75: float | None
    percentile_95: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means over cases: of all of them, of each resample, and of all but each patient's."""

    value: Floats  # [...]
    resampled: Floats  # [resample, ...]
    without_one: Floats  # [patient, ...]
    patients: NDArray[np.intp]  # [...]: how many have a score

    def over_classes(self) -> "Means":
        """Means of the means of classes, which are the last axis but one."""
        return Means(
            mean_of_known(self.value, -2),
            mean_of_known(self.resampled, -2),
            mean_of_known(self.without_one, -2),
            self.patients.max(axis=-2, initial=0),
        )

    def minus(self, other: "Means") -> "Means":
        """What they differ by, with the same patients in both."""
        return Means(
            self.value - other.value,
            self.resampled - other.resampled,
            self.without_one - other.without_one,
            np.minimum(self.patients, other.patients),
        )

    def flattened(self) -> "Means":
        """With a single axis of columns."""
        return Means(
            self.value.ravel(),
            self.resampled.reshape(len(self.resampled), -1),
            self.without_one.reshape(len(self.without_one), -1),
            self.patients.ravel(),
        )

    def intervals(self, method: Method = DEFAULT_METHOD) -> Floats:
        """Lower and upper end of the 95 % confidence interval of each mean [2, ...].

        NaN where fewer than two patients have a score. `bca` is bias-corrected and accelerated
        (Efron 1987), `percentile` are plain percentiles of the resampled means.
        """
        tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        levels = np.multiply.outer(tails, np.ones(self.value.shape))  # [end, ...]
        if method == "bca":
            levels = self._corrected(levels)
        ends = _quantiles(self.resampled, levels)
        known: Floats = np.where(self.patients > 1, ends, np.nan)
        return known

    def _corrected(self, levels: Floats) -> Floats:
        """Which percentiles to take, by how the resampled means lie around the mean."""
        count = np.maximum(np.count_nonzero(~np.isnan(self.resampled), axis=0), 1)
        below = np.count_nonzero(self.resampled < self.value, axis=0)
        up_to = np.count_nonzero(self.resampled <= self.value, axis=0)
        share = np.clip((below + up_to) / (2 * count), 0.5 / count, 1 - 0.5 / count)
        bias = _each(NORMAL.inv_cdf, share)
        moved = bias + _each(NORMAL.inv_cdf, levels)
        return _each(NORMAL.cdf, bias + moved / (1 - self._acceleration() * moved))

    def _acceleration(self) -> Floats:
        """How the spread of the mean grows with it, by the jackknife over patients."""
        apart = np.nan_to_num(mean_of_known(self.without_one, 0) - self.without_one)
        spread = np.sum(apart**2, axis=0) ** 1.5
        skew = np.sum(apart**3, axis=0)
        grown: Floats = np.divide(skew, 6 * spread, out=np.zeros_like(skew), where=spread > 0)
        return grown


def resample_means(scores: Floats, patients: Sequence[str]) -> Means:
    """The means of scores [case, ...], and what they would be with other patients.

    Patients are drawn with replacement, each with all of its cases (cluster bootstrap), and the
    same ones for every column. The order of cases does not matter, and chance is the same always.
    """
    sums, counts = patient_sums(scores, patients)
    resampled = [
        _ratio(np.tensordot(drawn, sums, 1), np.tensordot(drawn, counts, 1))
        for drawn in draws(len(sums), len(sums))
    ]
    return Means(
        _ratio(sums.sum(axis=0), counts.sum(axis=0)),
        np.concatenate(resampled),
        _ratio(sums.sum(axis=0) - sums, counts.sum(axis=0) - counts),
        np.count_nonzero(counts, axis=0),
    )


def patient_sums(scores: Floats, patients: Sequence[str]) -> tuple[Floats, Floats]:
    """Sums of each patient's scores, and how many there are [patient, ...], in order of names."""
    names, number = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    belongs = (number == np.arange(len(names))[:, None]).astype(float)  # [patient, case]
    known = ~np.isnan(scores)
    return (
        np.tensordot(belongs, np.where(known, scores, 0.0), 1),
        np.tensordot(belongs, known.astype(float), 1),
    )


def draws(patients: int, widest: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """How often each patient is drawn [resample, patient], in parts, so that an array with
    `widest` numbers a resample stays small."""
    rng, left = np.random.default_rng(SEED), resamples
    while left:
        rows = min(left, max(1, DRAWN_AT_ONCE // max(1, widest)))
        drawn = rng.integers(patients, size=(rows, patients)) if patients else np.zeros((rows, 0))
        places = drawn + patients * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel().astype(np.intp), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(float)
        left -= rows


def summarise(scores: Floats, penalised: Floats, means: Means) -> list[Statistics]:
    """One record for each column of scores [case, column], whose means are those of columns."""
    columns = zip(
        np.count_nonzero(~np.isnan(scores), axis=0).tolist(),
        means.patients.tolist(),
        means.value,
        means.intervals().T,
        mean_of_known(penalised, 0),
        _deviation(scores),
        _quantiles(scores, np.multiply.outer(PERCENTILES, np.ones(scores.shape[1]))).T,
        strict=True,
    )
    return [
        Statistics(
            defined=defined,
            patients=patients,
            mean=number(mean),
            interval_95=pair(ends),
            penalised_mean=number(with_penalties),
            standard_deviation=number(deviation),
            percentile_5=number(spread[0]),
            percentile_25=number(spread[1]),
            median=number(spread[2]),
            percentile_75=number(spread[3]),
            percentile_95=number(spread[4]),
        )
        for defined, patients, mean, ends, with_penalties, deviation, spread in columns
    ]


def number(value: float) -> float | None:
    """A number for a record; None for NaN."""
    return None if np.isnan(value) else float(value)


def pair(ends: Floats) -> tuple[float, float] | None:
    """Both ends of an interval for a record; None for NaN."""
    return None if np.isnan(ends).any() else (float(ends[0]), float(ends[1]))


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def mean_of_known(values: Floats, axis: int) -> Floats:
    """As np.nanmean, which warns where there is nothing; NaN there."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis).astype(float))


def _deviation(scores: Floats) -> Floats:
    """The standard deviation of each column, from two scores on."""
    count = np.count_nonzero(~np.isnan(scores), axis=0)
    squares = np.nansum((scores - mean_of_known(scores, 0)) ** 2, axis=0)
    return np.sqrt(_ratio(squares, np.maximum(count - 1, 0).astype(float)))


def _quantiles(values: Floats, levels: Floats) -> Floats:
    """Of the values [n, ...] that are there, at levels [level, ...] of each column's own."""
    ordered = np.sort(values.T, axis=-1).T  # NaN last
    last = np.count_nonzero(~np.isnan(values), axis=0) - 1
    if not len(values):
        return np.full(levels.shape, np.nan)
    places = levels * np.maximum(last, 0)
    lower = np.floor(places).astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(last, 0))
    low = np.take_along_axis(ordered, lower, axis=0)
    high = np.take_along_axis(ordered, upper, axis=0)
    between: Floats = low + (places - lower) * (high - low)
    return between


def _each(function: Any, values: Floats) -> Floats:
    flat = [function(value) for value in np.ravel(values).tolist()]
    return np.array(flat, dtype=float).reshape(values.shape)
