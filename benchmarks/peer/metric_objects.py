"""Scores of objects by other libraries. Belongs to metrics.py.

Functions get maps of numbers for masks, and confidences of the predicted objects for the spacing.
"""

import contextlib
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

LOWEST = -1.0  # of confidences, of what is missed
RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)  # false positives a scan
VOXELS_IN_TURN = 1_000_000  # which torchmetrics looks at one by one
Function = Callable[[Any, Any, tuple[float, ...], float], float]


class TooLargeError(Exception):
    """Would take minutes, or more memory than there is."""


def torchmetrics_objects() -> dict[str, Function]:
    import torch
    from torchmetrics.functional.detection import panoptic_quality

    def pq(prediction: Any, reference: Any, _: Any, __: float) -> float:
        if prediction.size > VOXELS_IN_TURN:
            raise TooLargeError
        both = [np.stack([ids > 0, ids], -1).astype(np.int32) for ids in (prediction, reference)]
        found = panoptic_quality(
            *(torch.from_numpy(ids)[None] for ids in both),
            things={1},
            stuffs={0},
            return_per_class=True,
        )
        return float(found[0, 0])

    return {"panoptic_quality": pq}


def panoptica_objects() -> dict[str, Function]:
    from panoptica import InputType, Metric, NaiveThresholdMatching, Panoptica_Evaluator

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.UNMATCHED_INSTANCE,
        instance_matcher=NaiveThresholdMatching(matching_threshold=0.5),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
        verbose=False,
    )

    def evaluate(prediction: Any, reference: Any) -> Any:
        return evaluator.evaluate(prediction, reference, verbose=False)["ungrouped"]

    return {
        "Panoptica_Evaluator, pq": lambda p, r, s, t: float(evaluate(p, r).pq),
        "Panoptica_Evaluator, sq": lambda p, r, s, t: float(evaluate(p, r).sq),
        "Panoptica_Evaluator, rq": lambda p, r, s, t: float(evaluate(p, r).rq),
    }


def pycocotools_objects() -> dict[str, Function]:
    """Scans of three axes are laid out as pictures, which changes no IoU."""
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coded(ids: Any) -> list[Any]:
        flat = ids.reshape(len(ids), -1)
        return [masks.encode(np.asfortranarray(flat == i, np.uint8)) for i in np.unique(ids) if i]

    def evaluate(prediction: Any, reference: Any, confidences: Any) -> Any:
        entry = {"image_id": 1, "category_id": 1, "iscrowd": 0}
        height, truth, objects = len(reference), COCO(), coded(reference)
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "height": height, "width": reference.size // height}],
            "categories": [{"id": 1}],
            "annotations": [
                entry | {"id": i, "segmentation": rle, "area": float(masks.area(rle))}
                for i, rle in enumerate(objects, 1)
            ],
        }
        truth.createIndex()
        found = [
            entry | {"segmentation": rle, "score": float(score)}
            for rle, score in zip(coded(prediction), confidences, strict=True)
        ]
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats

    def of(index: int) -> Function:
        def score(prediction: Any, reference: Any, confidences: Any, _: float) -> float:
            with contextlib.redirect_stdout(io.StringIO()):
                found = float(evaluate(prediction, reference, confidences)[index])
            return found if found >= 0 else math.nan  # -1 stands for none

        return score

    return {"COCOeval, AP": of(0), "COCOeval, AP50": of(1)}


def monai_objects() -> dict[str, Function]:
    """Which detections touch what is said here; the curve and its mean are MONAI's.

    Its curve has no point at the lowest confidence that there is, so another one is put below.
    """
    from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

    def confident(prediction: Any, reference: Any, confidences: Any) -> tuple[Any, Any]:
        """Confidences of those that touch nothing, and of the surest one of each reference."""
        numbers = [number for number in np.unique(prediction) if number]
        sure = dict(zip(numbers, confidences, strict=True))
        touching = {
            real: [sure[n] for n in np.unique(prediction[reference == real]) if n]
            for real in np.unique(reference)
            if real
        }
        false = [sure[n] for n in numbers if not reference[prediction == n].any()]
        return np.array(false), np.array([max(own, default=LOWEST) for own in touching.values()])

    def froc(prediction: Any, reference: Any, confidences: Any, below: bool) -> float:
        false, true = confident(prediction, reference, confidences)
        if not len(true):
            return math.nan
        curve = compute_froc_curve_data(
            np.append(false, LOWEST) if below else false,
            true if below else np.maximum(true, 0),  # which it gives what is missed
            len(true),
            1,
        )
        return float(compute_froc_score(*curve, eval_thresholds=RATES))

    return {
        "compute_froc_score": lambda p, r, c, _: froc(p, r, c, below=False),
        "compute_froc_score, a point more": lambda p, r, c, _: froc(p, r, c, below=True),
    }


OBJECTS = {
    "monai": monai_objects,
    "torchmetrics": torchmetrics_objects,
    "panoptica": panoptica_objects,
    "pycocotools": pycocotools_objects,
}
