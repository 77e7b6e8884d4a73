"""Metrics that look at the objects of all scans together, and how sure they are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoseg.evaluation.detection import Detections, froc
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import METRICS, ClassScores, Pooled
from autoseg.evaluation.statistics import DRAWN_AT_ONCE, Floats, Means, draws, number, pair

RESAMPLES = 1000  # each looks through all detections, at every IoU

Intervals = dict[str, tuple[float, float]]


def with_pooled(
    evaluation: Evaluation, by_case: Mapping[str, Mapping[str, ClassScores]]
) -> Evaluation:
    """The same with metrics that look at all scans together in place of their means.

    Intervals are of patients drawn again, each with the objects of all of its scans.
    """
    metrics = {name: METRICS[name].pooled for name in evaluation.metrics}
    pooled = {name: function for name, function in metrics.items() if function is not None}
    if not pooled or not evaluation.classes:
        return evaluation
    scans = {name: _detections(name, by_case) for name in evaluation.classes}
    patients = [evaluation.patients[case_id] for case_id in by_case]
    means = {
        name: _pooled_means(function, list(scans.values()), patients)
        for name, function in pooled.items()
    }
    over_classes = {name: one.over_classes() for name, one in means.items()}
    curves = {name: froc(found) for name, found in scans.items()}
    return evaluation.model_copy(
        update={
            "mean": evaluation.mean | _values(over_classes, 0),
            "mean_pooled_intervals": _intervals(over_classes, 0),
            "classes": {
                name: evaluation.classes[name] | _values(means, column)
                for column, name in enumerate(scans)
            },
            "pooled_intervals": {
                name: _intervals(means, column) for column, name in enumerate(scans)
            },
            "froc": {name: curve for name, curve in curves.items() if curve is not None},
        }
    )


def _detections(name: str, by_case: Mapping[str, Mapping[str, ClassScores]]) -> list[Detections]:
    found = [case[name].detections for case in by_case.values()]
    return [one for one in found if one is not None]


def _pooled_means(
    pooled: Pooled, classes: Sequence[list[Detections]], patients: Sequence[str]
) -> Means:
    """What a metric says of each class, and what it would with other patients [..., class, 1]."""
    names, belongs = np.unique(np.asarray(patients, str), return_inverse=True)
    widest = max(len(names), *(1 + sum(len(one.ious) for one in scans) for scans in classes))

    def of(times: Floats) -> Floats:  # of patients [row, patient]
        return np.stack([pooled(scans, times[:, belongs]) for scans in classes], axis=1)[..., None]

    has_references = [
        len({patients[i] for i, scan in enumerate(scans) if len(scan.found_at)})
        for scans in classes
    ]
    return Means(
        of(np.ones((1, len(names))))[0],
        np.concatenate([of(times) for times in draws(len(names), widest, RESAMPLES)]),
        np.concatenate([of(times) for times in _without_one(len(names), widest)]),
        np.array(has_references)[:, None],
    )


def _without_one(patients: int, widest: int) -> Iterator[Floats]:
    """Every patient left out once [patient, patient], in parts."""
    rows = max(1, DRAWN_AT_ONCE // widest)
    for first in range(0, patients, rows):
        yield 1 - np.eye(patients)[first : first + rows]


def _values(means: Mapping[str, Means], column: int) -> dict[str, float | None]:
    return {name: number(one.value.ravel()[column]) for name, one in means.items()}


def _intervals(means: Mapping[str, Means], column: int) -> Intervals:
    """Of those metrics that have one."""
    ends = {name: pair(one.flattened().intervals()[:, column]) for name, one in means.items()}
    return {name: both for name, both in ends.items() if both is not None}
