"""Scores of several folds taken together, as one cross-validation."""

from collections.abc import Mapping, Sequence

from autoseg.evaluation.evaluate import with_statistics
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from autoseg.evaluation.metrics import METRICS, Score
from autoseg.evaluation.statistics import Counts


def pool_folds(folds: Sequence[Evaluation], patients: Mapping[str, str]) -> Evaluation:
    """Every case of some evaluations, of which no two hold the same, summed up together.

    `patients` are by case id; a case that is not listed is a patient of its own. What looks at the
    objects of all scans together cannot be known, since these are not saved.
    """
    cases = {case_id: scores for fold in folds for case_id, scores in fold.cases.items()}
    keys = list(dict.fromkeys(key for fold in folds for key in fold.classes))
    known = {metric for scores in cases.values() for one in scores.values() for metric in one}
    pooled = folds[0].model_copy(
        update={
            "cases": cases,
            "counts": {key: _counts([scores[key] for scores in cases.values()]) for key in keys},
            "metrics": metric_notes(tuple(name for name in METRICS if name in known)),
            "patients": {case_id: patients.get(case_id, case_id) for case_id in cases},
            "penalties": {c: found for fold in folds for c, found in fold.penalties.items()},
            "pixel_accuracy": {c: v for fold in folds for c, v in fold.pixel_accuracy.items()},
            "froc": {},
            "pooled_intervals": {},
            "mean_pooled_intervals": {},
            "notes": tuple(dict.fromkeys(note for fold in folds for note in fold.notes)),
        }
    )
    return with_statistics(pooled)


def _counts(scores: Sequence[Score]) -> Counts:
    """How often a class is absent, by the volumes of both masks."""
    present = [(bool(one["volume_ml"]), bool(one["reference_volume_ml"])) for one in scores]
    return Counts(
        cases=len(present),
        both_empty=present.count((False, False)),
        missed=present.count((False, True)),
        hallucinated=present.count((True, False)),
    )
