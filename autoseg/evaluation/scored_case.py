"""One case: a mask against its reference, read and scored by a worker process."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import fastremap

from autoseg.dataset.labels import LabelScheme, instance_classes
from autoseg.dataset.reading import aligned, grid_differences
from autoseg.evaluation.mask_pair import Convention, MapPair
from autoseg.evaluation.metrics import METRICS, ClassScores, score_classes
from autoseg.geometry import Grid, same_space
from autoseg.images.volume import Volume, read_labels

ALL_METRICS = tuple(METRICS)


@dataclass(frozen=True, slots=True)
class CasePair:
    """The files of a mask and its reference, and how they are to be scored.

    Without `labels` every value found is scored, but 0. `metrics` are names in METRICS.
    """

    mask: Path
    reference: Path
    labels: LabelScheme | None
    metrics: tuple[str, ...] = ALL_METRICS
    convention: Convention = field(default_factory=Convention)


@dataclass(frozen=True, slots=True)
class ScoredCase:
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


def score_case(pair: CasePair) -> ScoredCase:
    """Read both files, and score every class of either."""
    stored, truth = read_labels(pair.mask), read_labels(pair.reference)
    mask = aligned(stored, truth)
    laid, placed = mask is not stored, stored.is_placed and truth.is_placed
    if not same_space(mask.grid, truth.grid):
        return ScoredCase({}, problem=_apart(pair.mask, mask.grid, pair.reference, truth.grid))
    values = _values_of(mask), _values_of(truth)
    maps = _maps_of(mask, truth, pair)
    return ScoredCase(
        score_classes(
            maps, _classes_of(pair.labels, *values), {name: METRICS[name] for name in pair.metrics}
        ),
        *values,
        turned=laid and placed,
        assumed=laid and not placed,
    )


def _maps_of(mask: Volume, truth: Volume, pair: CasePair) -> MapPair:
    """Both maps as they are scored: objects that are numbered become classes."""
    reference, annotated, labels = truth.array, None, pair.labels  # [z, y, x]
    if labels is not None:
        reference = instance_classes(reference) if labels.instances else reference
        annotated = None if labels.ignore is None else reference != labels.ignore
    return MapPair(mask.array, reference, annotated, truth.grid.spacing_mm, pair.convention)


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
