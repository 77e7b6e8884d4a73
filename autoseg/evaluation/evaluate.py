"""Masks against references: scores per case, per class, and what they amount to."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import raise_if_any
from autoseg.evaluation.declared import Declared
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from autoseg.evaluation.metrics import ABSENT, METRICS, ClassScores, Score
from autoseg.evaluation.numbered import numbers_of_mask
from autoseg.evaluation.pairing import Pairing, pair_masks
from autoseg.evaluation.pooled_metrics import with_pooled
from autoseg.evaluation.remarks import remarks_on, remarks_on_patients
from autoseg.evaluation.score_arrays import class_statistics, mean_statistics, score_arrays
from autoseg.evaluation.scored_case import CasePair, ScoredCase, numbers_objects, score_case
from autoseg.evaluation.scoring import Scoring
from autoseg.evaluation.statistics import Counts, Statistics
from autoseg.parallel import Progress, map_cases, silent

CaseScores = Mapping[str, Mapping[str, ClassScores]]  # by case id, then class
DEFAULT_SCORING = Scoring()


def evaluate_folders(
    predictions: Path,
    references: Path,
    workers: int,
    progress: Progress = silent,
    declared: Declared | None = None,
) -> Evaluation:
    """Score every mask in a folder against the reference of the same name, or a file against one.

    By all metrics, each case a patient of its own. Without labels that are `declared` every value
    found in either is scored, but 0. Raises AutosegError for masks without a reference, two files
    of one name, and pairs that do not cover the same voxels; references without a mask are only
    listed.
    """
    pairing = pair_masks(predictions, references)
    labels = None if declared is None else declared.labels
    evaluation = evaluate_pairs(pairing.pairs, labels, workers, progress)
    return with_sources(evaluation, pairing, declared)


def with_sources(evaluation: Evaluation, pairing: Pairing, declared: Declared | None) -> Evaluation:
    """An evaluation that also says what was left out, and where its names are from."""
    notes = [*pairing.notes, *evaluation.notes]
    if declared is not None and declared.labels is None:
        notes.insert(0, f"names are not known, since {declared.source}")
    return evaluation.model_copy(
        update={
            "references_without_mask": pairing.references_without_mask,
            "labels_from": None if declared is None or not declared.labels else declared.source,
            "notes": tuple(notes),
        }
    )


def evaluate_pairs(
    pairs: Mapping[str, tuple[Path, Path]],
    labels: LabelScheme | None,
    workers: int,
    progress: Progress = silent,
    scoring: Scoring = DEFAULT_SCORING,
) -> Evaluation:
    """Score (mask, reference) files of each case.

    Without `labels` every value found is scored. With them the declared classes or regions are, in
    those voxels that are annotated; references that number objects are scored as one class where
    masks number theirs, as object and border where they do not. Objects are then whole ones where
    numbers lie beside all masks. A mask whose axes are stored in another order is turned.
    Probabilities that `predict` has saved beside masks are looked at.
    """
    masks = [mask for mask, _ in pairs.values()]
    of_objects = labels is not None and labels.instances
    numbered = of_objects and numbers_objects(masks)
    beside = of_objects and not numbered and all(map(numbers_of_mask, masks))
    items = {
        case_id: CasePair(*pair, labels, scoring.metrics, scoring.convention, numbered, beside)
        for case_id, pair in pairs.items()
    }
    scored = map_cases(score_case, items, workers, progress, "evaluating cases")
    raise_if_any([c.problem for c in scored.values() if c.problem], "Grids differ")
    return _summed_up(scored, labels, scoring)


def _summed_up(
    scored: Mapping[str, ScoredCase], labels: LabelScheme | None, scoring: Scoring
) -> Evaluation:
    found = list(dict.fromkeys(name for case in scored.values() for name in case.scores))
    if labels is None:
        found.sort(key=int)
    absent = _only(ABSENT, scoring.metrics)
    by_case = {
        case_id: {name: case.scores.get(name, absent) for name in found}
        for case_id, case in scored.items()
    }
    patients = {case_id: scoring.patients.get(case_id, case_id) for case_id in by_case}
    evaluation = with_statistics(
        Evaluation(
            mean={},
            classes={},
            cases={
                case_id: {name: one.scores for name, one in classes.items()}
                for case_id, classes in by_case.items()
            },
            penalties=_penalties(by_case),
            counts={name: _counts([case[name] for case in by_case.values()]) for name in found},
            pixel_accuracy={
                case_id: case.accuracy
                for case_id, case in scored.items()
                if case.accuracy is not None
            },
            names=class_names(labels) if labels else {},
            notes=(*remarks_on(scored, labels), *remarks_on_patients(patients)),
            patients=patients,
            metrics=metric_notes(scoring.metrics),
            convention=scoring.convention,
        )
    )
    return with_pooled(evaluation, by_case)


def with_statistics(evaluation: Evaluation) -> Evaluation:
    """An evaluation's cases summed up: means and statistics by class, and over classes."""
    arrays = score_arrays(
        evaluation, tuple(evaluation.cases), tuple(evaluation.counts), tuple(evaluation.metrics)
    )
    by_class, over_classes = class_statistics(arrays), mean_statistics(arrays)
    return evaluation.model_copy(
        update={
            "mean": _means(over_classes),
            "classes": {name: _means(statistics) for name, statistics in by_class.items()},
            "statistics": by_class,
            "mean_statistics": over_classes,
        }
    )


def _means(statistics: Mapping[str, Statistics]) -> Score:
    """Of metrics that have a better end."""
    return {name: one.mean for name, one in statistics.items() if METRICS[name].better is not None}


def _penalties(by_case: CaseScores) -> dict[str, dict[str, dict[str, float]]]:
    """What penalised means count in place of scores that are not defined; nothing else."""
    penalties: dict[str, dict[str, dict[str, float]]] = {}
    for case_id, classes in by_case.items():
        for name, one in classes.items():
            for metric, penalty in one.penalised.items():
                if penalty is not None and one.scores[metric] is None:
                    penalties.setdefault(case_id, {}).setdefault(name, {})[metric] = penalty
    return penalties


def _counts(scores: list[ClassScores]) -> Counts:
    present = [(bool(one.sizes_vox[0]), bool(one.sizes_vox[1])) for one in scores]
    return Counts(
        cases=len(present),
        both_empty=present.count((False, False)),
        missed=present.count((False, True)),
        hallucinated=present.count((True, False)),
    )


def _only(one: ClassScores, metrics: tuple[str, ...]) -> ClassScores:
    return replace(
        one,
        scores={name: one.scores[name] for name in metrics},
        penalised={name: one.penalised[name] for name in metrics},
    )


def class_names(labels: LabelScheme) -> dict[str, str]:
    """The names of label values, as scores are listed by them; regions are listed by name."""
    if labels.regions:
        return {}
    named = zip(labels.values[1:], labels.names[1:], strict=True)
    return {str(value): name for value, name in named}
