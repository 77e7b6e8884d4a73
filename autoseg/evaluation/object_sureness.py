"""How sure one may be of objects, learned from held-out cases."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from autoseg.evaluation.statistics import Floats
from autoseg.postprocessing.quality import logistic, logit
from autoseg.postprocessing.sureness import ClassSureness, ObjectSureness

FEWEST = 20  # objects, and of either kind
FEWEST_OF_A_KIND = 5  # right ones, and wrong ones
GROUPS = 10  # of objects, whose shares are compared


@dataclass(frozen=True, slots=True)
class JudgedObjects:
    """Of one class the predicted objects of all held-out cases: scores, whether they are right, and
    what is left out together [object]."""

    name: str
    scores: Floats
    right: NDArray[np.bool_]
    group: NDArray[np.int64]


def learned_sureness(
    judged: Mapping[int, JudgedObjects], parts: int, iou: float
) -> ObjectSureness | None:
    """The lines of classes by label value; None where none has objects enough."""
    classes = tuple(_line_of(value, seen) for value, seen in judged.items() if _are_enough(seen))
    return ObjectSureness(classes=classes, parts=parts, iou=iou) if classes else None


def _are_enough(seen: JudgedObjects) -> bool:
    """Also when any group is left out."""
    return len(seen.right) > 0 and all(
        _teach(seen.right[seen.group != group]) for group in np.unique(seen.group)
    )


def _teach(right: NDArray[np.bool_]) -> bool:
    count = int(np.count_nonzero(right))
    return len(right) >= FEWEST and min(count, len(right) - count) >= FEWEST_OF_A_KIND


def _line_of(value: int, seen: JudgedObjects) -> ClassSureness:
    intercept, slope = _fit(seen.scores, seen.right)
    unseen = np.empty(len(seen.scores))
    for group in np.unique(seen.group):
        own = seen.group == group
        a, b = _fit(seen.scores[~own], seen.right[~own])
        unseen[own] = logistic(a + b * logit(seen.scores[own]))
    return ClassSureness(
        value=value,
        name=seen.name,
        intercept=intercept,
        slope=slope,
        objects=len(seen.scores),
        right_share=round(float(seen.right.mean()), 4),
        error=round(calibration_error(unseen, seen.right), 4),
        error_of_scores=round(calibration_error(seen.scores, seen.right), 4),
    )


def calibration_error(probabilities: Floats, right: NDArray[np.bool_]) -> float:
    """The mean difference of probability and share, of groups of as many objects each, in the order
    of their probabilities."""
    order = np.argsort(probabilities, kind="stable")
    groups = np.array_split(order, min(GROUPS, len(order)))
    off = [len(g) * abs(probabilities[g].mean() - right[g].mean()) for g in groups]
    return float(sum(off) / len(order))


def _fit(scores: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """The likeliest line, its targets drawn in a little from 0 and 1, as Platt does."""
    x, positives = logit(scores), int(np.count_nonzero(right))
    negatives = len(right) - positives
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: Floats) -> float:
        z = line[0] + np.exp(line[1]) * x
        return float((np.logaddexp(0, z) - targets * z).mean())

    intercept, log_slope = minimize(loss, np.zeros(2), bounds=[(-20, 20), (-4, 4)]).x
    return float(intercept), float(np.exp(log_slope))
