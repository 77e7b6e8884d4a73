"""Predictions of the same cases side by side: how much one is better, and how sure that is."""

from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.errors import AutosegError
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import METRICS
from autoseg.evaluation.score_arrays import ScoreArrays, jointly, score_arrays
from autoseg.evaluation.statistics import (
    Floats,
    Means,
    mean_of_known,
    number,
    pair,
    patient_sums,
    resample_means,
)
from autoseg.records import Record

RULE = (
    "differences are the other's scores less the first's, in cases that all predictions have; what "
    "is missed counts with its penalty, and of metrics that are best at zero the distance from it "
    "counts; intervals are by the same resamples of patients as those of means; p is of Wilcoxon's "
    "signed-rank test, two-sided, on one difference for each patient, and is not corrected for how "
    "many tests there are"
)


class Difference(Record):
    """The mean difference over `cases` in which both have a score, of so many `patients`.

    None where too few have one; `wilcoxon_p` is None too where nobody differs.
    """

    cases: int
    patients: int
    mean: float | None
    interval_95: tuple[float, float] | None
    wilcoxon_p: float | None


class Comparison(Record):
    """Two predictions by name: differences by class and metric, and of the means over classes."""

    first: str
    other: str
    cases: tuple[str, ...]
    mean: dict[str, Difference]
    classes: dict[str, dict[str, Difference]]
    rule: str = RULE


class SideBySide(Record):
    """Evaluations by name of the prediction; the first is compared with each of the others."""

    evaluations: dict[str, Evaluation]
    comparisons: tuple[Comparison, ...] = ()


def side_by_side(evaluations: Mapping[str, Evaluation]) -> SideBySide:
    """Compare the first prediction with each of the others, over cases that all of them have.

    Raises AutosegError when there are none.
    """
    (first, base), *others = evaluations.items()
    shared = [c for c in base.cases if all(c in other.cases for _, other in others)]
    if not shared:
        raise AutosegError(
            f"{', '.join(evaluations)}: no case is in all of them, so they cannot be compared. "
            "Give predictions of the same scans."
        )
    metrics = [
        name
        for name in base.metrics
        if METRICS[name].better and all(name in other.metrics for _, other in others)
    ]
    classes = list(dict.fromkeys(name for one in evaluations.values() for name in one.classes))
    arrays = {
        name: score_arrays(one, shared, classes, metrics) for name, one in evaluations.items()
    }
    return SideBySide(
        evaluations=dict(evaluations),
        comparisons=tuple(
            _compared(first, arrays[first], other, arrays[other]) for other, _ in others
        ),
    )


def _compared(first: str, base: ScoreArrays, other: str, arrays: ScoreArrays) -> Comparison:
    by_class = _counted(arrays, arrays.penalised) - _counted(base, base.penalised)
    joint = _counted(arrays, jointly(arrays, arrays.penalised)) - _counted(
        base, jointly(base, base.penalised)
    )
    means = resample_means(by_class, base.patients)
    shape = (len(base.cases), means.value.size)
    found = _differences(by_class.reshape(shape), means.flattened(), base.patients)
    count = len(base.metrics)
    over_classes = resample_means(joint, base.patients).over_classes()
    overall = _differences(mean_of_known(joint, 1), over_classes, base.patients)
    return Comparison(
        first=first,
        other=other,
        cases=base.cases,
        mean=dict(zip(base.metrics, overall, strict=True)),
        classes={
            name: dict(zip(base.metrics, found[index * count :][:count], strict=True))
            for index, name in enumerate(base.classes)
        },
    )


def _counted(arrays: ScoreArrays, scores: Floats) -> Floats:
    """Scores of which more, or less, is better throughout."""
    at_zero = np.array([METRICS[name].better == "zero" for name in arrays.metrics], dtype=bool)
    return np.where(at_zero, np.abs(scores), scores)


def _differences(by_case: Floats, means: Means, patients: Sequence[str]) -> list[Difference]:
    """One for each column of differences [case, column]."""
    sums, counts = patient_sums(by_case, patients)
    columns = zip(by_case.T, means.patients, means.value, means.intervals().T, strict=True)
    return [
        Difference(
            cases=int(np.count_nonzero(~np.isnan(differences))),
            patients=int(count),
            mean=number(mean),
            interval_95=pair(ends),
            wilcoxon_p=_wilcoxon(sums[known, column] / counts[known, column]),
        )
        for column, (differences, count, mean, ends) in enumerate(columns)
        for known in [counts[:, column] > 0]
    ]


def _wilcoxon(differences: Floats) -> float | None:
    from scipy.stats import wilcoxon  # takes a second to import

    if not np.any(differences):
        return None
    return float(wilcoxon(differences).pvalue)
