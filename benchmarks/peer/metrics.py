"""Scores pairs of masks with one other library. Belongs to metrics_parity.py.

Called with a Python that has the library, its name, a folder of `<name>.npz` (prediction and
reference [z, y, x] or [y, x], spacing, tolerance), and where to write. What is written is by
function: the scores by name, and the seconds of processor time per data set. A score that is not a
number is the word for it: nan, inf, or the error's name.
"""

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from metric_lesions import brats_2023  # isort: skip
from metric_objects import OBJECTS, Function, TooLargeError  # isort: skip
from metric_probabilities import torchmetrics_probabilities  # isort: skip

PIXELS_BY_PIXELS = 30_000  # of which torchmetrics makes a table of each by each


def surface_distance() -> dict[str, Function]:
    import surface_distance as sd

    def asd(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
        found = sd.compute_surface_distances(reference, prediction, spacing)
        means = sd.compute_average_surface_distance(found)
        areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
        return float(np.average(means, weights=areas))

    def of(measure: Any) -> Function:
        return lambda p, r, spacing, tolerance: measure(
            sd.compute_surface_distances(r, p, spacing), tolerance
        )

    return {
        "compute_robust_hausdorff(100)": of(lambda s, _: sd.compute_robust_hausdorff(s, 100)),
        "compute_robust_hausdorff(95)": of(lambda s, _: sd.compute_robust_hausdorff(s, 95)),
        "compute_average_surface_distance": asd,
        "compute_surface_dice_at_tolerance": of(sd.compute_surface_dice_at_tolerance),
        "compute_dice_coefficient": lambda p, r, s, t: sd.compute_dice_coefficient(r, p),
    }


def surface_distance_once() -> dict[str, Function]:
    """All four from one search, as a careful user would have it."""
    import surface_distance as sd

    def four(prediction: Any, reference: Any, spacing: Any, tolerance: float) -> float:
        found = sd.compute_surface_distances(reference, prediction, spacing)
        sd.compute_robust_hausdorff(found, 95)
        sd.compute_average_surface_distance(found)
        sd.compute_surface_dice_at_tolerance(found, tolerance)
        return float(sd.compute_robust_hausdorff(found, 100))

    return {"four": four}


def monai() -> dict[str, Function]:
    import monai.metrics as metrics
    import torch

    def of(function: Any, **settings: Any) -> Function:
        def score(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
            masks = [torch.from_numpy(mask)[None, None].byte() for mask in (prediction, reference)]
            found = function(*masks, include_background=True, spacing=spacing, **settings)
            return float(found.item())

        return score

    def nsd(**settings: Any) -> Function:
        return lambda p, r, spacing, tolerance: of(
            metrics.compute_surface_dice, class_thresholds=[tolerance], **settings
        )(p, r, spacing, tolerance)

    def overlap(function: Any) -> Function:
        return lambda p, r, s, t: float(
            function(torch.from_numpy(p)[None, None], torch.from_numpy(r)[None, None]).item()
        )

    return {
        "compute_hausdorff_distance": of(metrics.compute_hausdorff_distance),
        "compute_hausdorff_distance(percentile=95)": of(
            metrics.compute_hausdorff_distance, percentile=95
        ),
        "compute_average_surface_distance(symmetric=True)": of(
            metrics.compute_average_surface_distance, symmetric=True
        ),
        "compute_surface_dice": nsd(),
        "compute_surface_dice(use_subvoxels=True)": nsd(use_subvoxels=True),
        "compute_dice": overlap(metrics.compute_dice),
        "compute_iou": overlap(metrics.compute_iou),
    }


def medpy() -> dict[str, Function]:
    from medpy.metric import binary

    def overlap(function: Any) -> Function:
        return lambda p, r, s, t: function(p, r)

    return {
        "hd": lambda p, r, spacing, _: binary.hd(p, r, voxelspacing=spacing),
        "hd95": lambda p, r, spacing, _: binary.hd95(p, r, voxelspacing=spacing),
        "assd": lambda p, r, spacing, _: binary.assd(p, r, voxelspacing=spacing),
        "dc": overlap(binary.dc),
        "jc": overlap(binary.jc),
        "precision": overlap(binary.precision),
        "recall": overlap(binary.recall),
    }


def simpleitk() -> dict[str, Function]:
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.GlobalWarningDisplayOff()

    def image(mask: Any, spacing: Any) -> Any:
        made = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        made.SetSpacing([float(step) for step in spacing[::-1]])
        return made

    found: list[Any] = []  # of the last pair, so that four functions share one search

    def contours(prediction: Any, reference: Any, spacing: Any) -> list[Any]:
        """Distances from either contour to the other: LabelContour and SignedMaurer."""
        if not found or found[0] is not prediction:
            rims = [sitk.LabelContour(image(mask, spacing)) for mask in (prediction, reference)]
            far = [sitk.Abs(sitk.SignedMaurerDistanceMap(r, False, False, True)) for r in rims]
            inside = [sitk.GetArrayViewFromImage(rim) > 0 for rim in rims]
            there = sitk.GetArrayFromImage(far[1])[inside[0]]
            found[:] = [prediction, there, sitk.GetArrayFromImage(far[0])[inside[1]]]
        return found[1:]

    def of(measure: Callable[[list[Any], float], Any]) -> Function:
        return lambda p, r, spacing, tolerance: float(measure(contours(p, r, spacing), tolerance))

    def hausdorff(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
        measure = sitk.HausdorffDistanceImageFilter()
        measure.Execute(image(prediction, spacing), image(reference, spacing))
        return float(measure.GetHausdorffDistance())

    def overlap(name: str) -> Function:
        def score(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
            measure = sitk.LabelOverlapMeasuresImageFilter()
            measure.Execute(image(prediction, spacing), image(reference, spacing))
            found = {"dice": measure.GetDiceCoefficient, "iou": measure.GetJaccardCoefficient}
            return float(found[name](1))

        return score

    return {
        "HausdorffDistanceImageFilter": hausdorff,
        "LabelContour, max": of(lambda d, _: max(way.max() for way in d)),
        "LabelContour, percentile": of(lambda d, _: max(np.percentile(way, 95) for way in d)),
        "LabelContour, mean": of(lambda d, _: np.concatenate(d).mean(dtype=float)),
        "LabelContour, share": of(lambda d, tolerance: (np.concatenate(d) <= tolerance).mean()),
        "GetDiceCoefficient": overlap("dice"),
        "GetJaccardCoefficient": overlap("iou"),
    }


def torchmetrics() -> dict[str, Function]:
    import torch
    from torchmetrics.functional import segmentation

    def hausdorff(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
        if prediction.size > PIXELS_BY_PIXELS:
            raise TooLargeError
        masks = [torch.from_numpy(mask)[None, None].byte() for mask in (prediction, reference)]
        found = segmentation.hausdorff_distance(
            *masks, num_classes=1, include_background=True, spacing=list(spacing)
        )
        return float(found.item())

    def dice(prediction: Any, reference: Any, spacing: Any, _: float) -> float:
        masks = [torch.from_numpy(mask)[None, None].byte() for mask in (prediction, reference)]
        return float(segmentation.dice_score(*masks, num_classes=1).item())

    return {"hausdorff_distance": hausdorff, "dice_score": dice}


def panoptica() -> dict[str, Function]:
    from panoptica import metrics

    def of(function: Any) -> Function:
        return lambda p, r, spacing, _: float(function(r, p, voxelspacing=spacing))

    def overlap(function: Any) -> Function:
        return lambda p, r, s, t: float(function(r, p))

    return {
        "hausdorff_distance": of(metrics._compute_instance_hausdorff_distance),
        "hausdorff_distance95": of(metrics._compute_instance_hausdorff_distance95),
        "average_symmetric_surface_distance": of(
            metrics._compute_instance_average_symmetric_surface_distance
        ),
        "normalized_surface_dice": lambda p, r, spacing, tolerance: float(
            metrics._compute_instance_normalized_surface_dice(
                r, p, voxelspacing=spacing, threshold=tolerance
            )
        ),
        "centerline_dice": overlap(metrics._compute_centerline_dice),
        "volumetric_dice": overlap(metrics._compute_instance_volumetric_dice),
        "iou": overlap(metrics._compute_instance_iou),
    }


LIBRARIES = {
    "surface-distance": surface_distance,
    "surface-distance, one search": surface_distance_once,
    "monai": monai,
    "medpy": medpy,
    "SimpleITK": simpleitk,
    "torchmetrics": torchmetrics,
    "panoptica": panoptica,
    "BraTS-2023-Metrics": brats_2023,
}
TABLES: dict[str, Any] = {  # of functions by library, by what they look at
    "masks": LIBRARIES,
    "objects": OBJECTS,
    "probabilities": {"torchmetrics": torchmetrics_probabilities},
}


def arguments_of(question: Any) -> dict[str, tuple[Any, ...]]:
    """What functions are called with, by what they look at."""
    return {
        "masks": _masks(question),
        "objects": _objects(question),
        "probabilities": _probabilities(question),
    }


def _masks(question: Any) -> tuple[Any, ...]:
    """Masks, spacing, tolerance."""
    spacing = tuple(float(step) for step in question["spacing"])
    return question["prediction"], question["reference"], spacing, float(question["tolerance"])


def _objects(question: Any) -> tuple[Any, ...]:
    """Maps of numbers, and confidences of the predicted ones, which are mean probabilities."""
    masks = question["prediction"], question["reference"]
    touching = np.ones((3,) * masks[0].ndim)
    ids = [question.get(name) for name in ("predicted_ids", "reference_ids")]
    if ids[0] is None:
        ids = [ndimage.label(mask, touching)[0] for mask in masks]
    present = np.unique(ids[0][ids[0] > 0])
    return *ids, ndimage.mean(question["probability"], ids[0], present), 0.0


def _probabilities(question: Any) -> tuple[Any, ...]:
    """The probability and the reference where either mask is; without voxels where none is."""
    either = question["prediction"] | question["reference"]
    boxes = ndimage.find_objects(either.view(np.uint8))
    box = boxes[0] if boxes else (slice(0),) * either.ndim
    return question["probability"][box], question["reference"][box], (), 0.0


def score(function: Function, given: tuple[Any, ...]) -> float | str:
    try:
        found = float(function(*given))
    except Exception as error:  # a library may refuse empty masks as it likes
        return type(error).__name__
    return found if math.isfinite(found) else str(found).removeprefix("-")


def main() -> None:
    library, folder, answer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    functions = {
        name: (looked_at, function)
        for looked_at, table in TABLES.items()
        if library in table
        for name, function in table[library]().items()
    }
    scores: dict[str, dict[str, float | str]] = {name: {} for name in functions}
    seconds: dict[str, dict[str, float]] = {name: {} for name in functions}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            question = dict(file)
        dataset = path.stem.split("-")[0]
        given = arguments_of(question)
        for name, (looked_at, function) in functions.items():
            started = time.process_time()
            scores[name][path.stem] = score(function, given[looked_at])
            spent = time.process_time() - started
            seconds[name][dataset] = seconds[name].get(dataset, 0.0) + spent
    answer.write_text(json.dumps({"scores": scores, "seconds": seconds}))


main()
