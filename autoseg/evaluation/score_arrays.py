"""Scores of a set of masks as arrays, in which statistics and comparisons are computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import METRICS
from autoseg.evaluation.scored_case import ACCURACY
from autoseg.evaluation.statistics import (
    Floats,
    Statistics,
    mean_of_known,
    resample_means,
    summarise,
)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreArrays:
    """Scores [case, class, metric], the same with penalties, and pixel accuracy of all classes
    [case]; NaN where a score is not defined."""

    cases: tuple[str, ...]
    patients: tuple[str, ...]  # of each case
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: Floats
    penalised: Floats
    accuracy: Floats


def score_arrays(
    evaluation: Evaluation, cases: Sequence[str], classes: Sequence[str], metrics: Sequence[str]
) -> ScoreArrays:
    """Some scores of an evaluation; a class that it does not have was in none of its masks."""
    shape = (len(cases), len(classes), len(metrics))
    scores, penalised = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, case_id in enumerate(cases):
        for column, name in enumerate(classes):
            if name in evaluation.cases[case_id]:
                found = evaluation.cases[case_id][name]
                scores[row, column] = [_or_nan(found.get(metric)) for metric in metrics]
                penalised[row, column] = [
                    _or_nan(evaluation.score(case_id, name, metric)) for metric in metrics
                ]
    return ScoreArrays(
        tuple(cases),
        tuple(evaluation.patients.get(case_id, case_id) for case_id in cases),
        tuple(classes),
        tuple(metrics),
        scores,
        penalised,
        np.array([_or_nan(evaluation.pixel_accuracy.get(case_id)) for case_id in cases]),
    )


def class_statistics(arrays: ScoreArrays) -> dict[str, dict[str, Statistics]]:
    """By class and metric."""
    means = resample_means(arrays.scores, arrays.patients).flattened()
    shape = (len(arrays.cases), means.value.size)
    found = summarise(arrays.scores.reshape(shape), arrays.penalised.reshape(shape), means)
    count = len(arrays.metrics)
    return {
        name: dict(zip(arrays.metrics, found[index * count :][:count], strict=True))
        for index, name in enumerate(arrays.classes)
    }


def mean_statistics(arrays: ScoreArrays) -> dict[str, Statistics]:
    """By metric, of the mean over classes; the spread is that of each case's mean over classes.

    Metrics without a better end have none. Pixel accuracy is that of all classes together.
    """
    scores, penalised = (jointly(arrays, part) for part in (arrays.scores, arrays.penalised))
    means = resample_means(scores, arrays.patients).over_classes()
    found = summarise(mean_of_known(scores, 1), mean_of_known(penalised, 1), means)
    named = zip(arrays.metrics, found, strict=True)
    return {name: one for name, one in named if METRICS[name].better is not None}


def jointly(arrays: ScoreArrays, scores: Floats) -> Floats:
    """Scores [case, class, metric] whose mean over classes is what is meant: pixel accuracy is not
    that of single classes, so each of them gets that of all."""
    if ACCURACY not in arrays.metrics:
        return scores
    joint = scores.copy()
    joint[:, :, arrays.metrics.index(ACCURACY)] = arrays.accuracy[:, None]
    return joint


def _or_nan(score: float | None) -> float:
    return np.nan if score is None else score
