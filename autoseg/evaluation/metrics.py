"""The table of metrics, and scores of all classes of one scan by it.

A new metric is a row of METRICS and its function, which sees a MaskPair.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np

from autoseg.evaluation import (
    boundaries,
    calibration,
    centreline,
    detection,
    distances,
    lesions,
    overlap,
    panoptic,
)
from autoseg.evaluation.detection import Detections, detections_of
from autoseg.evaluation.mask_pair import MapPair, MaskPair
from autoseg.evaluation.statistics import Floats, number

Score = dict[str, float | None]  # by metric; None where it is not defined
Better = Literal["higher", "lower", "zero"]
# Of all scans together [row], where each row says how often every scan counts [row, scan].
Pooled = Callable[[Sequence[Detections], Floats], Floats]


class Empty(Enum):
    """What a metric is of masks that are empty, beside a number."""

    UNDEFINED = "undefined"  # None, and left out of the mean
    MEASURED = "measured"  # the function knows what to say
    DIAGONAL = "diagonal"  # that of the scan, in mm, which no distance exceeds


@dataclass(frozen=True, slots=True)
class EmptyRule:
    """A class's score where it is absent from both masks, or from only one of them.

    Where it is absent from one and the score is undefined, the mean that punishes counts `penalty`
    instead.
    """

    from_both: float | Empty
    from_one: float | Empty
    penalty: float | Empty


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for a pair of masks; `better` says which end of the scale is, if any.

    With `pooled` the number of a whole set of scans is no mean of theirs, but this, of the objects
    of all scans together. With `of_probabilities` it knows more where there are some.
    """

    function: Callable[[MaskPair], float | None]
    formula: str
    unit: str
    better: Better | None
    empty: EmptyRule
    pooled: Pooled | None = None
    of_probabilities: bool = False

    def score(self, pair: MaskPair) -> float | None:
        """Of one pair; None where it is not defined."""
        return self._by_rule(pair, self._rule(pair))

    def penalised(self, pair: MaskPair) -> float | None:
        """The same, but with the penalty where only one of the masks is empty."""
        score = self.score(pair)
        if score is None and 0 in pair.sizes_vox and any(pair.sizes_vox):
            return self._by_rule(pair, self.empty.penalty)
        return score

    def _rule(self, pair: MaskPair) -> float | Empty:
        if 0 not in pair.sizes_vox:
            return Empty.MEASURED
        return self.empty.from_one if any(pair.sizes_vox) else self.empty.from_both

    def _by_rule(self, pair: MaskPair, rule: float | Empty) -> float | None:
        if rule is Empty.MEASURED:
            return self.function(pair)
        if rule is Empty.DIAGONAL:
            return pair.diagonal_mm
        return None if isinstance(rule, Empty) else rule


# A class that is missing from both maps says nothing about the prediction, so it has no overlap.
OVERLAP = EmptyRule(Empty.UNDEFINED, 0.0, 0.0)
SHARE_OF_PREDICTION = EmptyRule(Empty.UNDEFINED, Empty.MEASURED, 0.0)
DISTANCE = EmptyRule(Empty.UNDEFINED, Empty.UNDEFINED, Empty.DIAGONAL)
ALWAYS = EmptyRule(Empty.MEASURED, Empty.MEASURED, Empty.UNDEFINED)
OF_EITHER = EmptyRule(Empty.UNDEFINED, Empty.MEASURED, Empty.UNDEFINED)

METRICS: dict[str, Metric] = {
    "pixel_accuracy": Metric(overlap.pixel_accuracy, "(TP + TN) / all", "", "higher", ALWAYS),
    "dice": Metric(overlap.dice, "2 TP / (2 TP + FP + FN)", "", "higher", OVERLAP),
    "iou": Metric(overlap.iou, "TP / (TP + FP + FN)", "", "higher", OVERLAP),
    "precision": Metric(overlap.precision, "TP / (TP + FP)", "", "higher", SHARE_OF_PREDICTION),
    "sensitivity": Metric(overlap.sensitivity, "TP / (TP + FN)", "", "higher", OF_EITHER),
    "specificity": Metric(overlap.specificity, "TN / (TN + FP)", "", "higher", ALWAYS),
    "volume_ml": Metric(lambda pair: pair.volumes_ml[0], "of the prediction", "ml", None, ALWAYS),
    "reference_volume_ml": Metric(
        lambda pair: pair.volumes_ml[1], "of the reference", "ml", None, ALWAYS
    ),
    "volume_difference_ml": Metric(
        overlap.volume_difference_ml, "prediction - reference", "ml", "zero", ALWAYS
    ),
    "volume_difference_percent": Metric(
        overlap.volume_difference_percent,
        "100 (prediction - reference) / reference",
        "percent",
        "zero",
        ALWAYS,
    ),
    "hd_mm": Metric(distances.hd_mm, "largest distance of surfaces", "mm", "lower", DISTANCE),
    "hd95_mm": Metric(
        distances.hd95_mm, "larger 95th percentile of both directions", "mm", "lower", DISTANCE
    ),
    "asd_mm": Metric(distances.asd_mm, "mean distance over both surfaces", "mm", "lower", DISTANCE),
    "nsd": Metric(distances.nsd, "share of surfaces within tolerance", "", "higher", OVERLAP),
    "boundary_f1": Metric(
        boundaries.boundary_f1, "F1 of boundaries within 0.75 % of diagonal", "", "higher", OVERLAP
    ),
    "boundary_iou": Metric(
        boundaries.boundary_iou, "IoU of rims of 2 % of diagonal", "", "higher", OVERLAP
    ),
    "cldice": Metric(centreline.cldice, "Dice of centrelines", "", "higher", OVERLAP),
    "lesion_f1": Metric(
        lesions.lesion_f1, "F1 of lesions that share a voxel", "", "higher", OF_EITHER
    ),
    "lesion_sensitivity": Metric(
        lesions.lesion_sensitivity,
        "share of lesions that share a voxel",
        "",
        "higher",
        OF_EITHER,
    ),
    "false_positives": Metric(
        lesions.false_positives, "predicted lesions that touch none, a scan", "", "lower", ALWAYS
    ),
    # BraTS scores empty masks itself: 1 and 0 mm where both are, 0 and 374 mm where one is.
    "brats_dice": Metric(
        lesions.brats_dice, "Dice of lesions, 0 of false ones", "", "higher", ALWAYS
    ),
    "brats_hd95_mm": Metric(
        lesions.brats_hd95_mm, "HD95 of lesions, 374 of false ones", "mm", "lower", ALWAYS
    ),
    "pq": Metric(
        panoptic.panoptic_quality,
        "sum of IoU / (TP + FP/2 + FN/2), IoU > 0.5",
        "",
        "higher",
        OF_EITHER,
    ),
    "sq": Metric(panoptic.segmentation_quality, "mean IoU of matches", "", "higher", OF_EITHER),
    "rq": Metric(
        panoptic.recognition_quality, "TP / (TP + FP/2 + FN/2), IoU > 0.5", "", "higher", OF_EITHER
    ),
    "jaccard_50": Metric(
        panoptic.jaccard_50, "TP / (TP + FP + FN), IoU >= 0.5", "", "higher", OF_EITHER
    ),
    "jaccard_75": Metric(
        panoptic.jaccard_75, "TP / (TP + FP + FN), IoU >= 0.75", "", "higher", OF_EITHER
    ),
    "jaccard_90": Metric(
        panoptic.jaccard_90, "TP / (TP + FP + FN), IoU >= 0.9", "", "higher", OF_EITHER
    ),
    "map": Metric(
        lambda pair: _of_one(detection.mean_average_precision, pair),
        "COCO's AP, IoU 0.50 to 0.95",
        "",
        "higher",
        OF_EITHER,
        pooled=detection.mean_average_precision,
        of_probabilities=True,
    ),
    "ap50": Metric(
        lambda pair: _of_one(detection.average_precision_50, pair),
        "COCO's AP at IoU 0.5",
        "",
        "higher",
        OF_EITHER,
        pooled=detection.average_precision_50,
        of_probabilities=True,
    ),
    "ap10": Metric(
        lambda pair: _of_one(detection.average_precision_10, pair),
        "COCO's AP at IoU 0.1",
        "",
        "higher",
        OF_EITHER,
        pooled=detection.average_precision_10,
        of_probabilities=True,
    ),
    # Undefined without probabilities.
    "ece": Metric(
        calibration.expected_calibration_error,
        "|probability - share of truth| over 15 bins, where either is",
        "",
        "lower",
        OF_EITHER,
        of_probabilities=True,
    ),
    "brier": Metric(
        calibration.brier_score,
        "mean (probability - truth)^2, where either is",
        "",
        "lower",
        OF_EITHER,
        of_probabilities=True,
    ),
}

OVERLAPS = (  # those that take no time
    "pixel_accuracy", "dice", "iou", "precision", "sensitivity", "specificity", "volume_ml",
    "reference_volume_ml", "volume_difference_ml", "volume_difference_percent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Of one class in one scan: by metric, and the same with penalties for what was missed.

    `sizes_vox` are those of the prediction and of the reference. `detections` are there where a
    metric is asked for that looks at all scans together.
    """

    scores: Score
    penalised: Score
    sizes_vox: tuple[int, int]
    detections: Detections | None = field(default=None, compare=False)


def score_classes(
    maps: MapPair,
    classes: Mapping[str, tuple[int, ...]],
    metrics: Mapping[str, Metric] = METRICS,
) -> dict[str, ClassScores]:
    """Score classes, or regions of several label values, in two maps of one scan."""
    return {name: score_masks(pair, metrics) for name, pair in maps.masks(classes)}


def score_masks(pair: MaskPair, metrics: Mapping[str, Metric] = METRICS) -> ClassScores:
    """All metrics of one class in one scan."""
    scores = {name: metric.score(pair) for name, metric in metrics.items()}
    penalised = {
        name: metric.penalised(pair) if scores[name] is None else scores[name]
        for name, metric in metrics.items()
    }
    pooled = any(metric.pooled for metric in metrics.values())
    return ClassScores(scores, penalised, pair.sizes_vox, detections_of(pair) if pooled else None)


# A class that neither map of a scan has.
ABSENT = score_masks(
    MaskPair(np.zeros((1, 1, 1), bool), np.zeros((1, 1, 1), bool), None, (1, 1, 1), (1, 1, 1), 1)
)


def mean_score(scores: Iterable[Score]) -> Score:
    """Means of every metric that has a better end, over the scores that there are."""
    rows = list(scores)
    return {
        name: _mean([row.get(name) for row in rows])
        for name in dict.fromkeys(name for row in rows for name in row)
        if METRICS[name].better is not None
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _of_one(pooled: Pooled, pair: MaskPair) -> float | None:
    """What a metric of all scans together says of a single one."""
    return number(pooled([detections_of(pair)], np.ones((1, 1)))[0])
