"""The objects of a segmentation, each with its class, its score, and where it lies."""

from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.geometry import Box, Grid
from autoseg.postprocessing.extent import feret_diameter_mm
from autoseg.postprocessing.instances import (
    Instance,
    InstanceRule,
    label_instances,
    measure_instances,
)
from autoseg.postprocessing.sureness import ObjectSureness

if TYPE_CHECKING:
    from autoseg.inference.joining import JoinedObjects
    from autoseg.inference.predictor import Segmentation

MM3_PER_ML = 1000.0


class FoundObject(Instance):
    """An object as it is told to users: what it is, how sure that is, and where it lies.

    The score is the mean over its voxels of how probable their likeliest class is; of one that
    queries found, how probable its class is times the mean probability of its mask, times the share
    of looks at it that found it. The probability that an object is there, which overlaps this one
    by an IoU of 0.5, is what cross-validation found of such scores. The diameter is that of a ball
    of this volume, or in a single slice of a disc of this area; Feret's is the largest distance
    between the centres of two voxels. An object at the image's border may go on beyond it. Voxels
    count from 0, along (z, y, x), which is the file's order from its last axis to its first; mm are
    RAS, those of corners of the box the outer corners of its voxels.
    """

    name: str
    score: float | None
    volume_ml: float
    diameter_mm: float
    feret_diameter_mm: float
    at_image_border: bool
    centroid_ras_mm: tuple[float, float, float]
    box_ras_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    probability: float | None = None


def find_objects(
    segmentation: "Segmentation",
    rule: InstanceRule,
    labels: LabelScheme | None,
    sureness: ObjectSureness | None = None,
) -> tuple[NDArray[np.unsignedinteger[Any]], list[FoundObject]]:
    """The map of objects [z, y, x], numbered from 1, and what each of them is.

    Where the scheme has things, objects are of these alone. Those that queries found are as they
    were found, as far as the mask has their class. With `sureness` each has its probability.
    """
    if segmentation.objects is not None and labels is not None:
        numbers, found = _as_found(segmentation, segmentation.objects, rule, labels)
    else:
        numbers, found = _parted(segmentation, rule, labels)
    if sureness is None:
        return numbers, found
    return numbers, [
        one.model_copy(update={"probability": sureness.probability(one.value, one.score)})
        for one in found
    ]


def _parted(
    segmentation: "Segmentation", rule: InstanceRule, labels: LabelScheme | None
) -> tuple[NDArray[np.unsignedinteger[Any]], list[FoundObject]]:
    values, grid = segmentation.labels.array, segmentation.labels.grid
    parting = None if segmentation.parting is None else segmentation.parting.array
    if parting is not None and rule.border is not None:  # a part of its object, parted otherwise
        values = np.where(values == rule.border, rule.border - 1, values)
        rule = rule.model_copy(update={"border": None})
    if labels is not None and labels.things:
        things = [labels.values[index] for index in labels.thing_classes]
        values = np.where(np.isin(values, things), values, 0)
    numbers, found = label_instances(values, grid.spacing_mm, rule, parting)
    scores = _scores(numbers, segmentation, len(found))
    return numbers, [_told(one, numbers, scores, grid, labels) for one in found]


def _as_found(
    segmentation: "Segmentation", objects: "JoinedObjects", rule: InstanceRule, labels: LabelScheme
) -> tuple[NDArray[np.unsignedinteger[Any]], list[FoundObject]]:
    values, grid = segmentation.labels.array, segmentation.labels.grid
    own = [labels.values[kind] for kind in objects.kinds]
    same = np.array([labels.values[0], *own])[objects.numbers] == values
    numbers, found, keys = measure_instances(
        np.where(same, objects.numbers, 0), own, grid.spacing_mm, rule
    )
    scores = np.array([0.0, *(objects.scores[key - 1] for key in keys)])
    return numbers, [_told(one, numbers, scores, grid, labels) for one in found]


def _scores(
    numbers: NDArray[Any], segmentation: "Segmentation", count: int
) -> NDArray[np.float64] | None:
    """The mean certainty of each object, from number 0 on; None where that is not known."""
    if segmentation.certainty is None:
        return None
    flat = numbers.reshape(-1)
    inside = np.flatnonzero(flat)
    certainty = segmentation.certainty.array.reshape(-1)[inside]
    total = np.bincount(flat[inside], certainty, minlength=count + 1)
    return total / np.maximum(1, np.bincount(flat[inside], minlength=count + 1))


def _told(
    one: Instance,
    numbers: NDArray[Any],
    scores: NDArray[np.float64] | None,
    grid: Grid,
    labels: LabelScheme | None,
) -> FoundObject:
    known = labels is not None and one.value in labels.values
    name = labels.names[labels.values.index(one.value)] if labels and known else str(one.value)
    size_mm = one.volume_mm3
    if lone := [axis for axis, size in enumerate(grid.shape_vox) if size == 1]:
        area_mm2 = size_mm / grid.spacing_mm[lone[0]]
        diameter_mm = 2 * np.sqrt(area_mm2 / pi)
    else:
        diameter_mm = 2 * np.cbrt(0.75 * size_mm / pi)
    return FoundObject(
        **one.model_dump(),
        name=name,
        score=None if scores is None else round(float(scores[one.number]), 4),
        volume_ml=size_mm / MM3_PER_ML,
        diameter_mm=round(float(diameter_mm), 4),
        feret_diameter_mm=round(_feret_mm(one, numbers, grid), 4),
        at_image_border=_is_at_border(one.box, grid),
        centroid_ras_mm=_ras_mm(one.centroid_vox, grid),
        box_ras_mm=_box_ras_mm(one.box, grid),
    )


def _feret_mm(one: Instance, numbers: NDArray[Any], grid: Grid) -> float:
    steps_mm = grid.affine_ras_mm[:3, 2::-1].T  # of z, y and x; the affine's columns are x, y, z
    return feret_diameter_mm(numbers[one.box.slices] == one.number, steps_mm)


def _is_at_border(box: Box, grid: Grid) -> bool:
    """Whether a box ends where the image does, along any axis but that across a single slice."""
    return any(
        size > 1 and (start == 0 or stop == size)
        for start, stop, size in zip(box.start, box.stop, grid.shape_vox, strict=True)
    )


def _ras_mm(point_vox: tuple[float, float, float], grid: Grid) -> tuple[float, float, float]:
    """Where a point (z, y, x) lies; the affine is of the file's order (x, y, z)."""
    x, y, z = grid.affine_ras_mm[:3, :3] @ np.array(point_vox[::-1]) + grid.affine_ras_mm[:3, 3]
    return round(float(x), 4), round(float(y), 4), round(float(z), 4)


def _box_ras_mm(
    box: Box, grid: Grid
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The lowest and highest coordinates of any corner, since axes may run either way, or askew."""
    ends = np.array([box.start, box.stop]) - 0.5  # voxels reach half a voxel around their centres
    corners = np.array(np.meshgrid(*ends.T, indexing="ij")).reshape(3, -1).T
    mm = np.array([_ras_mm((z, y, x), grid) for z, y, x in corners.tolist()])
    (a, b, c), (d, e, f) = mm.min(axis=0).tolist(), mm.max(axis=0).tolist()
    return (a, b, c), (d, e, f)
