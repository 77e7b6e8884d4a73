"""Estimates of Dice learned from cases that were held out, as they are and spoilt by rule."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from autoseg.postprocessing.quality import ClassQuality, QualityModel, logistic, logit

FEWEST_MASKS = 10  # of cases as they are, to say anything of a class
GROUPS = 5  # of cases, where there is a single fold
ROBUST_FROM = 0.1  # of Dice; errors beyond count less than their square

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observations:
    """Of one class, an entry for each mask that was compared with its reference.

    `expected_dice` is NaN where the mask is empty, `dice` where neither has the class, or where it
    is not known. Spoilt copies of a case have its fold, of which they are one each of its first
    cases, in the same order.
    """

    expected_dice: Floats
    dice: Floats
    fold: NDArray[np.int64]
    is_spoilt: NDArray[np.bool_]
    has_class: NDArray[np.bool_]  # whether the reference has it

    @property
    def groups(self) -> NDArray[np.int64]:
        """What is left out together: folds, or parts of the only one where anything is known,
        copies with their cases."""
        folds = np.unique(self.fold[self.known])
        if len(folds) != 1:
            return self.fold
        here = self.fold == folds[0]
        spoilt, clean = np.cumsum(here & self.is_spoilt), np.cumsum(here & ~self.is_spoilt)
        return (np.where(self.is_spoilt, spoilt, clean) - 1) % GROUPS

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.expected_dice) & np.isfinite(self.dice)


@dataclass(frozen=True, slots=True)
class _Line:
    intercept: float
    slope: float

    def __call__(self, expected_dice: Floats) -> Floats:
        return logistic(self.intercept + self.slope * logit(expected_dice))


def calibrate(observations: Mapping[str, Observations]) -> QualityModel | None:
    """The quality model of classes by name; None where none was seen often enough.

    Errors and intervals are those of estimates for a fold by the line of all other folds.
    """
    classes = tuple(
        _calibrated(name, seen)
        for name, seen in observations.items()
        if np.count_nonzero(seen.known & ~seen.is_spoilt) >= FEWEST_MASKS
    )
    if not classes:
        return None
    folds = {int(fold) for seen in observations.values() for fold in np.unique(seen.fold)}
    return QualityModel(classes=classes, folds=len(folds))


def cross_estimates(seen: Observations) -> Floats:
    """The estimate for every mask by the line of all other folds; NaN where nothing is known."""
    estimates = np.full(len(seen.dice), np.nan)
    for own in _parts(seen):
        others = seen.known & ~own
        estimates[own] = _fit(seen.expected_dice[others], seen.dice[others])(
            seen.expected_dice[own]
        )
    return estimates


def _parts(seen: Observations) -> Iterator[NDArray[np.bool_]]:
    for group in np.unique(seen.groups):
        own = (seen.groups == group) & seen.known
        if own.any():
            yield own


def _calibrated(name: str, seen: Observations) -> ClassQuality:
    line = _fit(seen.expected_dice[seen.known], seen.dice[seen.known])
    estimates = cross_estimates(seen)
    clean, spoilt = seen.known & ~seen.is_spoilt, seen.known & seen.is_spoilt
    error = np.abs(estimates - seen.dice)
    residuals = logit(seen.dice[seen.known]) - logit(estimates[seen.known])
    low, high = np.percentile(residuals, (5, 95))
    return ClassQuality(
        name=name,
        intercept=line.intercept,
        slope=line.slope,
        error=round(float(error[clean].mean()), 4),
        error_spoilt=round(float(error[spoilt].mean()), 4) if spoilt.any() else None,
        residuals_90=(float(low), float(high)),
        usual=round(float(seen.dice[clean].mean()), 4),
        doubtful_below=round(float(np.percentile(line(seen.expected_dice[clean]), 5)), 4),
        present_share=round(float(seen.has_class[~seen.is_spoilt].mean()), 4),
        cases=int(clean.sum()),
    )


def _fit(expected_dice: Floats, dice: Floats) -> _Line:
    """The line of least errors of Dice, of which large ones count by their size (soft L1)."""

    def errors(parameters: Floats) -> Floats:
        intercept, log_slope = parameters
        return _Line(intercept, np.exp(log_slope))(expected_dice) - dice

    bounds = ([-10, -3], [10, 3])
    found = least_squares(errors, (0, 0), bounds=bounds, loss="soft_l1", f_scale=ROBUST_FROM)
    intercept, log_slope = found.x
    return _Line(float(intercept), float(np.exp(log_slope)))
