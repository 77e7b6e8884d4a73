"""One case: a mask against its reference, read and scored by a worker process."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import INSTANCE_SCHEME, LabelScheme
from autoseg.dataset.reading import aligned, grid_differences, read_label_map
from autoseg.errors import AutosegError
from autoseg.evaluation.mask_pair import Convention, MapPair
from autoseg.evaluation.metrics import METRICS, OVERLAPS, ClassScores, score_classes
from autoseg.evaluation.numbered import (
    numbers_of_mask,
    numbers_of_reference,
    told_objects,
)
from autoseg.evaluation.saved_probabilities import SavedProbabilities, find_probabilities
from autoseg.evaluation.scoring import ALL_METRICS
from autoseg.geometry import Grid, same_space
from autoseg.images.volume import Volume, read_labels
from autoseg.work_folder import INSTANCES

ACCURACY = "pixel_accuracy"
OBJECT = 1  # the class of objects that are numbered


@dataclass(frozen=True, slots=True)
class CasePair:
    """The files of a mask and its reference, and how they are to be scored.

    Without `labels` every value found is scored, but 0. `metrics` are names in METRICS. Where
    references number objects, `numbered` says that the mask does so too, and is not one of classes.
    """

    mask: Path
    reference: Path
    labels: LabelScheme | None
    metrics: tuple[str, ...] = ALL_METRICS
    convention: Convention = field(default_factory=Convention)
    numbered: bool = False
    numbers_beside: bool = False


@dataclass(frozen=True, slots=True)
class ScoredCase:
    """One case: its scores, the values of either map, and whether the mask had to be turned, or
    taken to lie where its reference does.

    `accuracy` is the share of annotated voxels that have the right label. `problem` says why there
    are no scores.
    """

    scores: dict[str, ClassScores]
    accuracy: float | None = None
    predicted_values: frozenset[int] = frozenset()
    reference_values: frozenset[int] = frozenset()
    turned: bool = False
    assumed: bool = False
    problem: str | None = None


def score_case(pair: CasePair) -> ScoredCase:
    """Read both files, and score every class of either."""
    stored, truth = _read_mask(pair), read_label_map(pair.reference)
    mask = aligned(stored, truth)
    laid, placed = mask is not stored, stored.is_placed and truth.is_placed
    if not same_space(mask.grid, truth.grid):
        return ScoredCase({}, problem=_apart(pair.mask, mask.grid, pair.reference, truth.grid))
    values = _values_of(mask), _values_of(truth)
    maps = _with_objects(_maps_of(mask, truth, pair), truth, pair)
    if not laid:
        maps = replace(maps, probabilities=_probabilities_of(mask, pair))
    classes = _single_classes([OBJECT]) if pair.numbered else _classes_of(pair.labels, *values)
    return ScoredCase(
        score_classes(maps, classes, {name: METRICS[name] for name in pair.metrics}),
        _accuracy(maps) if ACCURACY in pair.metrics else None,
        *values,
        turned=laid and placed,
        assumed=laid and not placed,
    )


def _read_mask(pair: CasePair) -> Volume:
    """The mask's classes; of one that numbers things, those that are told beside it."""
    mask = read_labels(pair.mask)
    if pair.mask.parent.name != INSTANCES or not _has_things(pair):
        return mask
    numbers = numbers_of_mask(pair.mask)
    if numbers is None:
        return mask
    return replace(mask, array=told_objects(numbers).classes(mask.array))


def _has_things(pair: CasePair) -> bool:
    return pair.labels is not None and bool(pair.labels.things) and not pair.labels.instances


def _with_objects(maps: MapPair, truth: Volume, pair: CasePair) -> MapPair:
    """The maps with the numbers of things, or of objects that have a border, and the scores of
    predicted ones, where these are told; else they are components."""
    if set(pair.metrics) <= set(OVERLAPS):
        return maps
    told_somewhere = pair.numbered or pair.numbers_beside or _has_things(pair)
    numbers = numbers_of_mask(pair.mask) if told_somewhere else None
    if numbers is not None:
        told = told_objects(numbers)
        ids = _on_grid(numbers, truth)
        maps = replace(maps, predicted_ids=ids, predicted_scores=told.score_table(ids))
        maps = replace(maps, objects_have_border=pair.numbers_beside)
    if _has_things(pair) and (path := numbers_of_reference(pair.reference)) is not None:
        maps = replace(maps, reference_ids=_on_grid(path, truth))
    return maps


def _on_grid(numbers: Path, truth: Volume) -> NDArray[np.integer[Any]]:
    """Numbered objects [z, y, x] in the voxels of a reference."""
    found = aligned(read_labels(numbers), truth)
    if not same_space(found.grid, truth.grid):
        raise AutosegError(
            f"{numbers}: lies on another grid than the reference: "
            f"{grid_differences(found.grid, truth.grid)}."
        )
    return found.array


def numbers_objects(masks: Iterable[Path]) -> bool:
    """Whether masks of a data set that numbers objects number them, and are not of its classes.

    They do if they lie where `predict --instances` writes, or any has a value beyond the classes'.
    """
    last = INSTANCE_SCHEME.values[-1]
    return any(
        mask.parent.name == INSTANCES or read_labels(mask).array.max() > last for mask in masks
    )


def _maps_of(mask: Volume, truth: Volume, pair: CasePair) -> MapPair:
    """Both maps as they are scored. Objects that are numbered become one class, or object and
    border where the mask has those."""
    prediction, reference = mask.array, truth.array  # [z, y, x]
    annotated, labels = None, pair.labels
    if pair.numbered:
        prediction, reference = ((ids != 0).astype(np.uint8) for ids in (prediction, reference))
    elif labels is not None:
        reference = labels.as_mask(reference, truth.grid.spacing_mm)
        annotated = None if labels.ignore is None else reference != labels.ignore
    return MapPair(
        prediction,
        reference,
        annotated,
        truth.grid.spacing_mm,
        pair.convention,
        mask.array if pair.numbered else None,
        truth.array if labels is not None and labels.instances else None,
    )


def _probabilities_of(mask: Volume, pair: CasePair) -> SavedProbabilities | None:
    """Those beside the mask, where classes are known and a metric looks at them."""
    if pair.labels is None or not any(METRICS[name].of_probabilities for name in pair.metrics):
        return None
    saved = find_probabilities(pair.mask, mask.array.shape, pair.labels)
    if saved is None or not pair.numbered:
        return saved
    inside, border = INSTANCE_SCHEME.values[1:]
    return replace(saved, outputs={str(OBJECT): (inside, border)})


def _accuracy(maps: MapPair) -> float | None:
    """The share of voxels that have the right label (pixel accuracy of Long et al. 2015)."""
    right = maps.prediction == maps.reference
    looked_at = right.size
    if maps.annotated is not None:
        right, looked_at = right & maps.annotated, int(np.count_nonzero(maps.annotated))
    return np.count_nonzero(right) / looked_at if looked_at else None


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


def _classes_of(
    labels: LabelScheme | None, predicted: frozenset[int], reference: frozenset[int]
) -> dict[str, tuple[int, ...]]:
    """What is scored: regions by name, the values of foreground classes, or all that are found."""
    if labels is None:
        return _single_classes(sorted((predicted | reference) - {0}))
    if labels.regions:
        return {region.name: region.values for region in labels.regions}
    return _single_classes(labels.values[1:])


def _single_classes(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    return {str(value): (value,) for value in values}
