"""What steps of post-processing do to the scores of one case, without writing masks.

Dice follows from how many voxels have which pair of values, and a step moves a few of them; other
metrics see the corrected mask itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import MAX_LABEL_VALUE, LabelScheme
from autoseg.dataset.reading import aligned, read_label_map
from autoseg.evaluation.mask_pair import MapPair
from autoseg.evaluation.metrics import METRICS, score_masks
from autoseg.geometry import Spacing3
from autoseg.images.volume import read_labels
from autoseg.postprocessing.steps import Confidence, Parts, Step, apply_steps

COUNTED = "dice"  # the metric that is made of counts

ScoreRow = NDArray[np.float64]  # [class], NaN where undefined; more is better


@dataclass(frozen=True, slots=True)
class CorrectedCase:
    """A mask and its reference; steps that are taken for granted, and others to try after them."""

    mask: Path
    reference: Path
    labels: LabelScheme
    confidences: Mapping[str, Confidence] = field(default_factory=dict)
    metric: str = COUNTED
    steps: tuple[Step, ...] = ()
    candidates: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Maps:
    """A scan's reference [z, y, x] in file values, where it is annotated, and what is scored."""

    reference: NDArray[np.integer[Any]]
    annotated: NDArray[np.bool_] | None
    spacing_mm: Spacing3
    classes: Mapping[str, tuple[int, ...]]


def correct_case(case: CorrectedCase) -> NDArray[np.float64]:
    """Scores after the steps, then after each of the candidates in turn [1 + candidate, class]."""
    truth = read_label_map(case.reference)
    mask = aligned(read_labels(case.mask), truth)
    reference = case.labels.as_mask(truth.array, truth.grid.spacing_mm)
    ignore = case.labels.ignore
    maps = Maps(
        reference,
        None if ignore is None else reference != ignore,
        truth.grid.spacing_mm,
        scored_classes(case.labels),
    )
    labels, _ = apply_steps(
        mask.array.astype(np.uint16), maps.spacing_mm, case.steps, case.confidences
    )
    parts = Parts(labels, maps.spacing_mm, case.confidences)
    score_after = _counting(parts, maps) if case.metric == COUNTED else _looking(parts, maps, case)
    return np.stack([score_after(None), *(score_after(step) for step in case.candidates)])


def scored_classes(labels: LabelScheme) -> dict[str, tuple[int, ...]]:
    """The values of each region, or of each foreground class, by name."""
    if labels.regions:
        return {region.name: region.values for region in labels.regions}
    named = zip(labels.names[1:], labels.values[1:], strict=True)
    return {name: (value,) for name, value in named}


def oriented(metric: str, score: float | None) -> float:
    """A score of a metric so that more is better; NaN where there is none."""
    if score is None:
        return float("nan")
    better = METRICS[metric].better
    return score if better == "higher" else -score if better == "lower" else -abs(score)


def _looking(parts: Parts, maps: Maps, case: CorrectedCase) -> Callable[[Step | None], ScoreRow]:
    """Scores by any metric, of the corrected mask."""
    metrics = {case.metric: METRICS[case.metric]}

    def score_after(step: Step | None) -> ScoreRow:
        labels = parts.labels
        if step is not None:
            labels = labels.copy()
            labels.reshape(-1)[parts.changed_by(step)] = step.becomes
        pair = MapPair(labels, maps.reference, maps.annotated, maps.spacing_mm)
        scores = [
            score_masks(masks, metrics).penalised[case.metric]
            for _, masks in pair.masks(maps.classes)
        ]
        return np.array([oriented(case.metric, score) for score in scores])

    return score_after


def _counting(parts: Parts, maps: Maps) -> Callable[[Step | None], ScoreRow]:
    """Dice from how many annotated voxels have which values, in the mask and in the reference."""
    coding = _Coding.of(maps.classes)
    predicted, reference = parts.labels.reshape(-1), maps.reference.reshape(-1)
    scored = (predicted != 0) | (reference != 0)
    if maps.annotated is not None:
        scored &= maps.annotated.reshape(-1)
    joint = coding.joint(predicted[scored], reference[scored])

    def score_after(step: Step | None) -> ScoreRow:
        if step is None:
            return coding.dice(joint)
        where = parts.changed_by(step)
        if maps.annotated is not None:
            where = where[maps.annotated.reshape(-1)[where]]
        before, truth = predicted[where], reference[where]
        moved = coding.joint(np.full_like(before, step.becomes), truth)
        return coding.dice(joint - coding.joint(before, truth) + moved)

    return score_after


@dataclass(frozen=True, slots=True)
class _Coding:
    """Label values as consecutive codes, 0 for what is not scored; and each class's codes."""

    table: NDArray[np.intp]  # [value]
    count: int
    members: Sequence[NDArray[np.intp]]

    @classmethod
    def of(cls, classes: Mapping[str, tuple[int, ...]]) -> "_Coding":
        values = sorted({value for members in classes.values() for value in members})
        table = np.zeros(MAX_LABEL_VALUE + 2, np.intp)
        table[values] = np.arange(1, len(values) + 1)
        return cls(table, len(values) + 1, [table[list(m)] for m in classes.values()])

    def joint(self, predicted: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.int64]:
        """How many voxels have which codes [code of the mask, code of the reference]."""
        codes = self.table[predicted] * self.count + self.table[reference]
        counts = np.bincount(codes, minlength=self.count**2)
        return counts.reshape(self.count, self.count)

    def dice(self, joint: NDArray[np.int64]) -> ScoreRow:
        """2 TP / (2 TP + FP + FN) of each class; NaN where it is in neither map."""
        scores = []
        for own in self.members:
            common = int(joint[np.ix_(own, own)].sum())
            both = int(joint[own].sum()) + int(joint[:, own].sum())
            scores.append(2 * common / both if both else np.nan)
        return np.array(scores)
