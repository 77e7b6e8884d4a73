"""What Dice a mask is likely to have, judged from how sure the networks were, and by how much such
estimates were wrong for cases that were held out of training.

Networks are too sure of themselves, most of all on scans unlike those of training; but the less
sure, the worse the mask. So soft Dice e is put on the scale of true Dice by a line between logits,
logit(Dice) = intercept + slope logit(e), with a slope above 0, for each class on its own.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoseg.records import Record

LEAST, MOST = 1e-3, 1 - 1e-3  # beyond which logits say no more
EXPECTED_SHARE = 0.95  # of held-out cases that have a class, from which on it is missed


class ClassQuality(Record):
    """The line of one class, and how well it did on the cases of folds that it had not seen.

    `error` is the mean absolute error for held-out cases as they are, `error_spoilt` for those that
    were spoilt by rule. `residuals_90` are the 5th and 95th percentile of logit(true) -
    logit(estimate), of both together. Of cases as they are, `usual` is the mean true Dice,
    `doubtful_below` the 5th percentile of estimates, and `present_share` the share that has the
    class.
    """

    name: str
    intercept: float
    slope: float
    error: float
    error_spoilt: float | None
    residuals_90: tuple[float, float]
    usual: float
    doubtful_below: float
    present_share: float
    cases: int

    def estimate(self, expected_dice: ArrayLike) -> NDArray[np.float64]:
        """Likely true Dice of soft Dice."""
        return logistic(self.intercept + self.slope * logit(expected_dice))

    def interval(self, estimate: ArrayLike) -> NDArray[np.float64]:
        """What true Dice nine of ten held-out masks of an estimate had, from and to [2, ...]."""
        return np.stack([logistic(logit(estimate) + shift) for shift in self.residuals_90])


class QualityModel(Record):
    """Estimates of Dice for the classes, or regions, that were seen often enough."""

    classes: tuple[ClassQuality, ...]
    folds: int


class DiceEstimate(Record):
    """Of one class of a mask: its likely Dice, with the interval that holds it for nine of ten
    held-out masks; None where the mask is empty. `error` is the mean absolute error of
    cross-validation, and `usual` the mean Dice there."""

    dice: float | None
    low: float | None
    high: float | None
    error: float
    usual: float


class MaskQuality(Record):
    """What is expected of a mask, by class. `against_usual` is the least share that a class is
    expected to have of its usual Dice, 0 where one is missing that scans have; masks to look at
    first have the smallest."""

    classes: dict[str, DiceEstimate]
    against_usual: float | None


def judge(
    model: QualityModel, expected_dice: Mapping[str, float | None]
) -> tuple[MaskQuality, tuple[str, ...]]:
    """What Dice a mask is likely to have, by the soft Dice of its classes, and what to warn of."""
    known = [quality for quality in model.classes if quality.name in expected_dice]
    estimates = {q.name: _estimate(q, expected_dice[q.name]) for q in known}
    shares = [
        _share(quality, estimates[quality.name])
        for quality in known
        if estimates[quality.name].dice is not None or _is_missed(quality)
    ]
    warnings = tuple(w for q in known for w in _warnings(q, estimates[q.name]))
    return MaskQuality(classes=estimates, against_usual=min(shares, default=None)), warnings


def logit(share: ArrayLike) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(share, np.float64), LEAST, MOST)
    odds: NDArray[np.float64] = np.log(inside / (1 - inside))
    return odds


def logistic(value: ArrayLike) -> NDArray[np.float64]:
    share: NDArray[np.float64] = 1 / (1 + np.exp(-np.asarray(value, np.float64)))
    return share


def _estimate(quality: ClassQuality, soft: float | None) -> DiceEstimate:
    if soft is None:
        return DiceEstimate(
            dice=None, low=None, high=None, error=quality.error, usual=quality.usual
        )
    dice = quality.estimate(soft)
    low, high = quality.interval(dice)
    return DiceEstimate(
        dice=round(float(dice), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        error=quality.error,
        usual=quality.usual,
    )


def _share(quality: ClassQuality, estimate: DiceEstimate) -> float:
    return round((estimate.dice or 0) / max(quality.usual, LEAST), 4)


def _is_missed(quality: ClassQuality) -> bool:
    """Whether an empty mask of the class is a bad sign."""
    return quality.present_share >= EXPECTED_SHARE


def _warnings(quality: ClassQuality, estimate: DiceEstimate) -> Iterator[str]:
    if estimate.dice is None and _is_missed(quality):
        yield (
            f"{quality.name} was not found, though {quality.present_share:.0%} of the held-out "
            "scans have it; check the scan"
        )
    if estimate.dice is not None and estimate.dice < quality.doubtful_below:
        yield (
            f"{quality.name} is likely to have a Dice of only {estimate.dice:.2f} "
            f"({estimate.low:.2f} to {estimate.high:.2f}; usual is {quality.usual:.2f}); check the "
            "mask with care"
        )
