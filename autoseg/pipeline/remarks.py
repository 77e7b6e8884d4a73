"""What to know of a training: said before it takes hours, and where its scores depend on it, again
at its end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.splits import Fold, Splits
from autoseg.inspection.statistics import CaseStats
from autoseg.planning.plan import Expectation
from autoseg.planning.run_plan import TrainingPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.schedule import Budget

NAMED = 5  # cases, in a message


def short_length(budget: Budget, planned: TrainingPlan, expected: Expectation) -> str | None:
    """That a settled length is too short for a model of any use; None where it may do."""
    epoch = planned.iterations_per_epoch
    if budget.iterations is not None:
        iterations, length = budget.iterations, f"{budget.iterations} iterations are"
    elif budget.seconds is not None and expected.step_seconds > 0:
        iterations = int(budget.seconds / expected.step_seconds)
        length = f"{budget.seconds / 60:.3g} minutes, here about {iterations} iterations, are"
    else:
        return None
    if iterations >= epoch:
        return None
    return (
        f"{length} less than one epoch of {epoch}, where the plan has {planned.epochs}: too short "
        "for a usable model. Train longer, or leave the length to the plan."
    )


def unseen_classes(
    fold: int | None, split: Fold, cases: Sequence[CaseStats], labels: LabelScheme
) -> list[str]:
    """Classes, or regions, that only held-out cases have, each as a sentence."""
    wanted = {region.name: set(region.values) for region in labels.regions} or {
        name: {value} for value, name in zip(labels.values[1:], labels.names[1:], strict=True)
    }
    sentences = []
    for name, values in wanted.items():
        having = [c.case_id for c in cases if any(c.label_voxels.get(v) for v in values)]
        if having and not set(having) & set(split.train):
            whose = "its only case" if len(having) == 1 else "its only cases"
            are = "is" if len(having) == 1 else "are"
            sentences.append(
                f"Fold {fold} never sees class {name}: {whose} {in_words(having)} {are} held out. "
                "Nothing can be said of how well it is segmented; --fold all trains on every case."
            )
    return sentences


def mixed_patients(
    fold: int | None, split: Fold, patients: Mapping[str, str], splits_path: Path
) -> list[str]:
    """That scans of one patient are on both sides of a fold, as a sentence; empty where none are.

    `patients` maps case ids to them.
    """
    mixed = Splits(cases=(), folds=(split,)).mixed_patients(dict(patients))
    if not mixed:
        return []
    return [
        f"Fold {fold} trains on some scans of {in_words(sorted(mixed))} and holds out others, so "
        f"its scores are too good. Keep all scans of a patient on one side ({splits_path})."
    ]


def not_annotated(cases: Mapping[str, StoredCase]) -> list[str]:
    """Cases of which every voxel is ignored, so that nothing can be learnt from them."""
    return [
        case_id
        for case_id, case in cases.items()
        if case.annotated_locations is not None and not len(case.annotated_locations)
    ]


def in_words(case_ids: Sequence[str]) -> str:
    """The first few, and how many there are."""
    more = f" and {len(case_ids) - NAMED} more" if len(case_ids) > NAMED else ""
    return ", ".join(case_ids[:NAMED]) + more
