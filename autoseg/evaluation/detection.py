"""Average precision and FROC: detections of a whole data set in the order of their confidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.lesions import LESIONS
from autoseg.evaluation.mask_pair import MaskPair
from autoseg.evaluation.objects import LEAST_IOU
from autoseg.evaluation.statistics import Floats
from autoseg.records import Record


class CocoRule(Record):
    """How COCO counts average precision."""

    ious: tuple[float, ...] = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
    recalls: int = 101  # at which precision is looked up, from 0 to 1
    detections: int = 100  # of each class and scan, the most confident ones


COCO = CocoRule()
LOOSE_IOU = 0.1  # at which nnDetection counts lesions as found
FALSE_POSITIVES_PER_SCAN = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # as in LUNA16


class Froc(Record):
    """Sensitivity of lesions at so many false positives a scan, and their mean."""

    false_positives_per_scan: tuple[float, ...]
    sensitivities: tuple[float, ...]
    mean: float


@dataclass(frozen=True, slots=True)
class Detections:
    """Predicted objects of one class in one scan, so that scans can be looked at together.

    `ious` are with the reference object that matches, or 0; `loose_ious` the same where an IoU of
    0.1 makes a match; `touches` says whether any reference is
    touched. `found_at` is the confidence of the surest detection that touches a reference object,
    below 0 where none does. Without scores or probabilities (`ranked` is false) all confidences
    are 1.
    """

    confidences: Floats  # [detection]
    sizes_vox: NDArray[np.int64]  # [detection]
    ious: Floats  # [detection]
    loose_ious: Floats  # [detection]
    touches: NDArray[np.bool_]  # [detection]
    may_be_false: NDArray[np.bool_]  # [detection]
    found_at: Floats  # [reference]
    ranked: bool


def detections_of(pair: MaskPair) -> Detections:
    """What average precision and FROC need of a pair."""
    objects = pair.objects
    pairs = objects.overlaps
    enough = pairs.vox >= LESIONS.least_vox
    first, second = pairs.first[enough], pairs.second[enough]
    touches = np.zeros(len(objects.predicted_vox), bool)
    touches[first] = True
    found_at = np.full(len(objects.reference_vox), -1.0)
    np.maximum.at(found_at, second, objects.confidences[first])
    return Detections(
        objects.confidences,
        objects.predicted_vox,
        objects.matched_ious,
        objects.matched_from(LOOSE_IOU),
        touches,
        objects.may_be_false,
        found_at,
        pair.is_ranked,
    )


def mean_average_precision(scans: Sequence[Detections], times: Floats) -> Floats:
    """COCO's AP of masks: the mean over IoUs from 0.50 to 0.95 of `average_precision`."""
    each = [average_precision(scans, times, iou) for iou in COCO.ious]
    mean: Floats = np.mean(each, axis=0)
    return mean


def average_precision_50(scans: Sequence[Detections], times: Floats) -> Floats:
    """COCO's AP at an IoU of 0.5."""
    return average_precision(scans, times, 0.5)


def average_precision_10(scans: Sequence[Detections], times: Floats) -> Floats:
    """The same at an IoU of 0.1, as nnDetection reports it, there of boxes and here of masks."""
    return average_precision(scans, times, LOOSE_IOU)


def average_precision(
    scans: Sequence[Detections], times: Floats, iou: float, most: int = COCO.detections
) -> Floats:
    """Mean precision at 101 recalls, of the detections of all scans by confidence [row].

    Each row of `times` [row, scan] says how often every scan counts. Precision at a recall is the
    best at that or a higher one. Detections of one confidence count at
    once, so the order of scans does not matter, which in COCO's own code it does; where all are
    equal, as without probabilities, the curve is a single point. Of more than `most` detections in
    a scan the most confident count, and of those alike the largest. Below an IoU of 0.5 objects
    match from 0.1 on. NaN without any reference.
    """
    references = times @ np.array([len(scan.found_at) for scan in scans], float)
    true, false = _running_counts(*_pooled(scans, times, iou, most))
    recall = true / np.maximum(references, 1)[:, None]
    precision = true / np.maximum(true + false, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    wanted = np.linspace(0, 1, COCO.recalls)
    at = [np.searchsorted(row, wanted) for row in recall]
    padded = np.pad(best, ((0, 0), (0, 1)))
    mean = np.take_along_axis(padded, np.stack(at), axis=1).mean(axis=1)
    return np.where(references > 0, mean, np.nan)


def froc(scans: Sequence[Detections]) -> Froc | None:
    """Sensitivity at 1/8 to 8 false positives a scan, over all scans (Setio 2017).

    A lesion is found by a voxel in common, at the confidence of its surest detection; between the
    points of the curve lines are drawn. None without references, or where a scan has neither
    scores nor probabilities: there is nothing to rank by.
    """
    found_at = np.concatenate([scan.found_at for scan in scans])
    if not len(found_at) or not all(scan.ranked for scan in scans):
        return None
    false_at = np.concatenate([s.confidences[s.may_be_false & ~s.touches] for s in scans])
    found_at, lesions = found_at[found_at >= 0], len(found_at)
    hit = np.repeat([True, False], [len(found_at), len(false_at)])
    counts = _running_counts(np.concatenate((found_at, false_at)), hit, np.ones((1, len(hit))))
    found, false = (count[0] for count in counts)
    # Of several points at one rate, interp takes the last, which is the highest.
    values = np.interp(FALSE_POSITIVES_PER_SCAN, false / len(scans), found / lesions).tolist()
    return Froc(
        false_positives_per_scan=FALSE_POSITIVES_PER_SCAN,
        sensitivities=tuple(values),
        mean=float(np.mean(values)),
    )


def _pooled(
    scans: Sequence[Detections], times: Floats, iou: float, most: int
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """The confidences of all detections that count, whether each is right, and how often it
    counts [row, detection]."""
    confidences: list[Floats] = [np.zeros(0)]
    right = [np.zeros(0, bool)]
    for scan in scans:
        best = np.lexsort((-scan.sizes_vox, -scan.confidences))[:most]
        ious = scan.ious if iou >= LEAST_IOU else scan.loose_ious
        matched = ious[best] >= iou
        counts = matched | scan.may_be_false[best]
        confidences.append(scan.confidences[best][counts])
        right.append(matched[counts])
    sizes = list(map(len, right[1:]))
    return np.concatenate(confidences), np.concatenate(right), np.repeat(times, sizes, axis=1)


def _running_counts(
    confidences: Floats, right: NDArray[np.bool_], times: Floats
) -> tuple[Floats, Floats]:
    """How many are right, and wrong, down to each confidence, from none on [row, confidence]."""
    order = np.argsort(-confidences, kind="stable")
    ends = np.flatnonzero(np.diff(confidences[order], append=-np.inf))
    right, times = right[order], times[:, order]
    true, false = (np.cumsum(times * which, axis=1)[:, ends] for which in (right, ~right))
    return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))
