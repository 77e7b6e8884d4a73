"""Masks against references: scores per case, per class, and their means."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.dataset.layouts.naming import image_files, stem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.metrics import (
    EMPTY_RULE,
    ClassScore,
    Mean,
    absent_score,
    mean_score,
    score_classes,
)
from autoseg.geometry import same_space
from autoseg.images.volume import read_labels
from autoseg.parallel import Progress, map_cases, silent
from autoseg.records import Record


class Evaluation(Record):
    """Scores by case id and label value, or name of a region; class means are over cases, the mean
    is over classes."""

    mean: Mean
    classes: dict[str, Mean]
    cases: dict[str, dict[str, ClassScore]]
    references_without_mask: tuple[str, ...] = ()
    empty_rule: str = EMPTY_RULE


def evaluate_folders(
    predictions: Path, references: Path, workers: int, progress: Progress = silent
) -> Evaluation:
    """Score every mask in a folder against the reference of the same name.

    Every label value found in either is scored, but 0. Raises AutosegError for masks without a
    reference, and for pairs that lie on different grids; references without a mask are only listed.
    """
    masks, truths = _by_case(predictions), _by_case(references)
    if not masks:
        raise AutosegError(f"{predictions}: there are no masks here. Give a folder of NIfTI files.")
    raise_if_any(
        [
            f"{path}: there is no reference named {case_id} in {references}."
            for case_id, path in masks.items()
            if case_id not in truths
        ],
        "Masks without a reference",
    )
    pairs = {case_id: (mask, truths[case_id]) for case_id, mask in masks.items()}
    evaluation = evaluate_pairs(pairs, None, workers, progress)
    missing = tuple(sorted(truths.keys() - masks.keys()))
    return evaluation.model_copy(update={"references_without_mask": missing})


def evaluate_pairs(
    pairs: dict[str, tuple[Path, Path]],
    labels: LabelScheme | None,
    workers: int,
    progress: Progress = silent,
) -> Evaluation:
    """Score (mask, reference) files of each case.

    Without `labels` every value found is scored. With them the declared classes or regions are, in
    those voxels that are annotated; references that number objects are compared as object and
    border.
    """
    items = {case_id: (*pair, labels) for case_id, pair in pairs.items()}
    cases = map_cases(_score_case, items, workers, progress, "evaluating cases")
    found = list(dict.fromkeys(name for scores in cases.values() for name in scores))
    if labels is None:
        found.sort(key=int)
    absent = absent_score()
    cases = {c: {name: scores.get(name, absent) for name in found} for c, scores in cases.items()}
    classes = {name: mean_score(scores[name] for scores in cases.values()) for name in found}
    return Evaluation(mean=mean_score(classes.values()), classes=classes, cases=cases)


def _by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise AutosegError(f"{folder}: there is no such folder. Give one that holds masks.")
    return {stem(path): path for path in image_files(folder) if path.is_file()}


def _score_case(item: tuple[Path, Path, LabelScheme | None]) -> dict[str, ClassScore]:
    mask_path, truth_path, labels = item
    mask, truth = read_labels(mask_path), read_labels(truth_path)
    if not same_space(mask.grid, truth.grid):
        raise AutosegError(
            f"{mask_path} and {truth_path} lie on different grids "
            f"({mask.grid.shape_vox} and {truth.grid.shape_vox} voxels, or another affine). "
            "Predict again from the image that the reference was drawn on."
        )
    predicted, reference = mask.array, truth.array  # [z, y, x]
    annotated = None
    if labels is not None and labels.instances:
        reference = instance_classes(reference)
    if labels is None:
        found = set(np.unique(predicted).tolist()) | set(np.unique(reference).tolist())
        classes = _single_classes(sorted(found - {0}))
    else:
        classes = _classes_of(labels)
        if labels.ignore is not None:
            annotated = reference != labels.ignore
    return score_classes(predicted, reference, annotated, classes, truth.grid.spacing_mm)


def _classes_of(labels: LabelScheme) -> dict[str, tuple[int, ...]]:
    """What is scored: regions by name, or the values of the foreground classes."""
    if labels.regions:
        return {region.name: region.values for region in labels.regions}
    return _single_classes(labels.values[1:])


def _single_classes(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    return {str(value): (value,) for value in values}
