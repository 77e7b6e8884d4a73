"""Masks against references: scores per case, per class, and their means."""

from pathlib import Path

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import raise_if_any
from autoseg.evaluation.declared import Declared
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import ABSENT, mean_score
from autoseg.evaluation.pairing import pair_masks
from autoseg.evaluation.remarks import remarks_on
from autoseg.evaluation.scored_case import CasePair, score_case
from autoseg.parallel import Progress, map_cases, silent


def evaluate_folders(
    predictions: Path,
    references: Path,
    workers: int,
    progress: Progress = silent,
    declared: Declared | None = None,
) -> Evaluation:
    """Score every mask in a folder against the reference of the same name, or a file against one.

    Without labels that are `declared` every value found in either is scored, but 0. Raises
    AutosegError for masks without a reference, two files of one name, and pairs that do not cover
    the same voxels; references without a mask are only listed.
    """
    pairing = pair_masks(predictions, references)
    labels = None if declared is None else declared.labels
    evaluation = evaluate_pairs(pairing.pairs, labels, workers, progress)
    notes = [*pairing.notes, *evaluation.notes]
    if declared is not None and labels is None:
        notes.insert(0, f"names are not known, since {declared.source}")
    return evaluation.model_copy(
        update={
            "references_without_mask": pairing.references_without_mask,
            "labels_from": None if declared is None or labels is None else declared.source,
            "notes": tuple(notes),
        }
    )


def evaluate_pairs(
    pairs: dict[str, tuple[Path, Path]],
    labels: LabelScheme | None,
    workers: int,
    progress: Progress = silent,
) -> Evaluation:
    """Score (mask, reference) files of each case.

    Without `labels` every value found is scored. With them the declared classes or regions are, in
    those voxels that are annotated; references that number objects are scored as object and
    border. A mask whose axes are stored in another order is turned.
    """
    items = {case_id: CasePair(*pair, labels) for case_id, pair in pairs.items()}
    scored = map_cases(score_case, items, workers, progress, "evaluating cases")
    raise_if_any([c.problem for c in scored.values() if c.problem], "Grids differ")
    found = list(dict.fromkeys(name for case in scored.values() for name in case.scores))
    if labels is None:
        found.sort(key=int)
    cases = {
        case_id: {name: case.scores.get(name, ABSENT).scores for name in found}
        for case_id, case in scored.items()
    }
    classes = {name: mean_score(scores[name] for scores in cases.values()) for name in found}
    return Evaluation(
        mean=mean_score(classes.values()),
        classes=classes,
        cases=cases,
        names=class_names(labels) if labels else {},
        notes=tuple(remarks_on(scored, labels)),
    )


def class_names(labels: LabelScheme) -> dict[str, str]:
    """The names of label values, as scores are listed by them; regions are listed by name."""
    if labels.regions:
        return {}
    named = zip(labels.values[1:], labels.names[1:], strict=True)
    return {str(value): name for value, name in named}
