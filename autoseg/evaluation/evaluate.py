"""Masks against references: scores per case, per class, and their means."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fastremap
from pydantic import Field

from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.dataset.reading import aligned, grid_differences
from autoseg.errors import raise_if_any
from autoseg.evaluation.declared import Declared
from autoseg.evaluation.mask_pair import MapPair
from autoseg.evaluation.metrics import ABSENT, ClassScores, Score, mean_score, score_classes
from autoseg.evaluation.pairing import pair_masks
from autoseg.geometry import Grid, same_space
from autoseg.images.volume import Volume, read_labels
from autoseg.parallel import Progress, map_cases, silent
from autoseg.records import Record

CASES_NAMED = 3
EMPTY_RULE = (
    "a class absent from both masks has no Dice and is left out of the means; "
    "absent from only one of them it has Dice 0"
)


class Evaluation(Record):
    """Scores by case id and label value, or name of a region; class means are over cases, the mean
    is over classes.

    `names` are those of label values, where they are known; `labels_from` says by whom. `notes` are
    what a reader of the scores should know.
    """

    mean: Score
    classes: dict[str, Score]
    cases: dict[str, dict[str, Score]]
    references_without_mask: tuple[str, ...] = ()
    empty_rule: str = EMPTY_RULE
    names: dict[str, str] = Field(default_factory=dict)
    labels_from: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Compared:
    """One case: its scores, the values of either map, and whether the mask had to be turned, or
    taken to lie where its reference does.

    `problem` says why there are none.
    """

    scores: dict[str, ClassScores]
    predicted_values: frozenset[int] = frozenset()
    reference_values: frozenset[int] = frozenset()
    turned: bool = False
    assumed: bool = False
    problem: str | None = None


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
    those voxels that are annotated; references that number objects are compared as object and
    border. A mask whose axes are stored in another order is turned.
    """
    items = {case_id: (*pair, labels) for case_id, pair in pairs.items()}
    compared = map_cases(_compare, items, workers, progress, "evaluating cases")
    raise_if_any([c.problem for c in compared.values() if c.problem], "Grids differ")
    found = list(dict.fromkeys(name for case in compared.values() for name in case.scores))
    if labels is None:
        found.sort(key=int)
    cases = {
        case_id: {name: case.scores.get(name, ABSENT).scores for name in found}
        for case_id, case in compared.items()
    }
    classes = {name: mean_score(scores[name] for scores in cases.values()) for name in found}
    return Evaluation(
        mean=mean_score(classes.values()),
        classes=classes,
        cases=cases,
        names=class_names(labels) if labels else {},
        notes=tuple(_notes(compared, labels)),
    )


def class_names(labels: LabelScheme) -> dict[str, str]:
    """The names of label values, as scores are listed by them; regions are listed by name."""
    if labels.regions:
        return {}
    named = zip(labels.values[1:], labels.names[1:], strict=True)
    return {str(value): name for value, name in named}


def _compare(item: tuple[Path, Path, LabelScheme | None]) -> _Compared:
    mask_path, truth_path, labels = item
    stored, truth = read_labels(mask_path), read_labels(truth_path)
    mask = aligned(stored, truth)
    laid, placed = mask is not stored, stored.is_placed and truth.is_placed
    if not same_space(mask.grid, truth.grid):
        return _Compared({}, problem=_apart(mask_path, mask.grid, truth_path, truth.grid))
    predicted_values, reference_values = _values_of(mask), _values_of(truth)
    reference, annotated = truth.array, None  # [z, y, x]
    if labels is None:
        classes = _single_classes(sorted((predicted_values | reference_values) - {0}))
    else:
        classes = _classes_of(labels)
        reference = instance_classes(reference) if labels.instances else reference
        annotated = None if labels.ignore is None else reference != labels.ignore
    maps = MapPair(mask.array, reference, annotated, truth.grid.spacing_mm)
    scores = score_classes(maps, classes)
    return _Compared(
        scores,
        predicted_values,
        reference_values,
        turned=laid and placed,
        assumed=laid and not placed,
    )


def _apart(mask: Path, mask_grid: Grid, truth: Path, truth_grid: Grid) -> str:
    """That two grids do not cover the same voxels, and what can be done."""
    text = (
        f"{mask} and {truth} lie on different grids: {grid_differences(mask_grid, truth_grid)}. "
        "Predict again from the scan that the reference was drawn on"
    )
    if sorted(mask_grid.shape_vox) == sorted(truth_grid.shape_vox):
        return f"{text}; if the voxels are the same, correct the header that is wrong."
    return f"{text}, or resample one to the other's grid with nearest neighbours."


def _values_of(volume: Volume) -> frozenset[int]:
    return frozenset(int(value) for value in fastremap.unique(volume.array))


def _named(cases: list[str]) -> str:
    """The first few of some cases, and how many more there are."""
    more = f" and {len(cases) - CASES_NAMED} more" if len(cases) > CASES_NAMED else ""
    return f"{', '.join(cases[:CASES_NAMED])}{more}"


def _notes(compared: dict[str, _Compared], labels: LabelScheme | None) -> Iterator[str]:
    """What was assumed, or cannot be known from the files alone."""
    if turned := [case_id for case_id, case in compared.items() if case.turned]:
        yield (
            f"{_named(turned)}: mask and reference cover the same voxels in another order of axes; "
            "the mask was turned"
        )
    if assumed := [case_id for case_id, case in compared.items() if case.assumed]:
        yield (
            f"{_named(assumed)}: mask or reference does not state where it lies; they are taken to "
            "lie alike, voxel by voxel"
        )
    predicted = frozenset[int]().union(*(case.predicted_values for case in compared.values()))
    reference = frozenset[int]().union(*(case.reference_values for case in compared.values()))
    highest = max(reference, default=0)
    if labels is None and highest not in predicted and len(reference - {0}) > 1:
        yield (
            f"value {highest} is in references, but in no mask. If it marks voxels that nobody "
            f'annotated, declare it among the labels of a dataset.json, as "ignore": {highest}, '
            "and give that file with --labels"
        )
    if labels is None or labels.instances:
        return
    unknown = sorted((predicted | reference) - {*labels.values, labels.ignore})
    if unknown:
        shown = ", ".join(str(value) for value in unknown[:10])
        yield f"values {shown} are in the files, but are not declared, and are not scored"


def _classes_of(labels: LabelScheme) -> dict[str, tuple[int, ...]]:
    """What is scored: regions by name, or the values of the foreground classes."""
    if labels.regions:
        return {region.name: region.values for region in labels.regions}
    return _single_classes(labels.values[1:])


def _single_classes(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    return {str(value): (value,) for value in values}
