"""Lesions as BraTS 2023 counts them: parts that nearly touch are one, and so is what is predicted.

By the rule of the challenge (BraTS-2023-Metrics); dilations and overlaps are of all lesions at
once, since what is dilated together touches where one by one does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluation.objects import (
    Mask,
    Numbers,
    Overlaps,
    PairedObjects,
    find_overlaps,
    number_objects,
)
from autoseg.geometry import Spacing3
from autoseg.records import Record

EDGE_NEIGHBOURS = ndimage.generate_binary_structure(3, 2)
SETTING_UP_VOX = 3000  # voxels that a dilation could do while it is being set up

Box = tuple[slice, ...]


class BratsRule(Record):
    """Constants of the lesion-wise scores; these are those of the challenges on gliomas."""

    dilations: int = 3
    ignored_mm3: float = 50.0  # lesions up to this volume are not scored
    penalty_mm: float = 374.0  # of a lesion missed or made up; the diagonal of scans with a margin


BRATS = BratsRule()


@dataclass(frozen=True, slots=True)
class JoinedLesions:
    """Lesions of the reference and the predicted components near them.

    `lesion_of` is the lesion that each reference component is a part of, `near` the pairs of
    predicted components and lesions, in voxels of the dilated lesion. `scored` are large enough.
    """

    lesion_of: NDArray[np.int64]  # [reference]
    near: Overlaps  # predicted, lesion
    dice: NDArray[np.float64]  # [lesion]
    scored: NDArray[np.bool_]  # [lesion]
    false: int

    @property
    def count(self) -> int:
        """By how many the sum of scores is divided."""
        return int(np.count_nonzero(self.scored)) + self.false


def join_lesions(
    components: PairedObjects, spacing_mm: Spacing3, rule: BratsRule = BRATS
) -> JoinedLesions:
    """Join components of the reference that touch once dilated, and find what is predicted there.

    Components of the prediction count as whole, for each dilated lesion that they overlap.
    """
    lesion_of, near = _nearby(components, rule.dilations)
    lesions = int(lesion_of.max(initial=-1)) + 1
    lesion_vox = np.bincount(lesion_of, components.reference_vox, lesions)
    predicted_vox = np.bincount(near.second, components.predicted_vox[near.first], lesions)
    pairs = components.overlaps
    common_vox = np.bincount(lesion_of[pairs.second], pairs.vox, lesions)
    alone = components.may_be_false.copy()
    alone[near.first] = False
    return JoinedLesions(
        lesion_of,
        near,
        2 * common_vox / (lesion_vox + predicted_vox),
        lesion_vox * np.prod(spacing_mm) > rule.ignored_mm3,
        int(np.count_nonzero(alone)),
    )


def lesion_masks(components: PairedObjects, lesions: JoinedLesions) -> Iterator[tuple[Mask, Mask]]:
    """What is predicted near each scored lesion that is found, and the lesion, in a box of both."""
    predicted_boxes, reference_boxes = _boxes(components.predicted), _boxes(components.reference)
    for lesion in np.intersect1d(np.flatnonzero(lesions.scored), lesions.near.second):
        predicted = 1 + lesions.near.first[lesions.near.second == lesion]
        reference = 1 + np.flatnonzero(lesions.lesion_of == lesion)
        bounds = np.concatenate((predicted_boxes[predicted], reference_boxes[reference]))
        box = _around(bounds, 0, components.predicted.shape)
        yield (
            np.isin(components.predicted[box], predicted),
            np.isin(components.reference[box], reference),
        )


def _nearby(components: PairedObjects, dilations: int) -> tuple[NDArray[np.int64], Overlaps]:
    """The lesion that each reference component is a part of, and what is predicted near lesions."""
    pairs, count = components.overlaps, len(components.predicted_vox)
    if len(components.reference_vox) < 2 and len(pairs.first) == count:
        return np.zeros(len(components.reference_vox), np.int64), pairs  # nothing is left to find
    dilated = number_objects(_dilated(components.reference, dilations))
    lesion_of = find_overlaps(components.reference, dilated).second
    return lesion_of, find_overlaps(components.predicted, dilated)


def _dilated(numbers: Numbers, dilations: int) -> Mask:
    """All objects dilated, box by box where that is less work than all at once.

    What lies beyond the array is not needed: objects that touch there touch inside as well.
    """
    whole: Mask = numbers != 0
    boxes = [_around(bounds[None], dilations, numbers.shape) for bounds in _boxes(numbers)[1:]]
    if sum(SETTING_UP_VOX + whole[box].size for box in boxes) > whole.size:
        boxes = [tuple(slice(0, size) for size in whole.shape)]
    dilated: Mask = np.zeros_like(whole)
    for box in boxes:
        dilated[box] |= ndimage.binary_dilation(whole[box], EDGE_NEIGHBOURS, dilations)
    return dilated


def _boxes(numbers: Numbers) -> NDArray[Any]:
    """The first and last index of each axis in turn, [object, 6], of the objects from 0 on."""
    boxes: NDArray[Any] = cc3d.statistics(numbers, no_slice_conversion=True)["bounding_boxes"]
    return boxes.astype(np.int64)


def _around(bounds: NDArray[np.int64], margin: int, shape: Sequence[int]) -> Box:
    """A box that holds others [object, 6], with a margin, inside the array."""
    first, last = bounds[:, ::2].min(axis=0), bounds[:, 1::2].max(axis=0)
    return tuple(
        slice(max(0, a - margin), min(size, b + 1 + margin))
        for a, b, size in zip(first.tolist(), last.tolist(), shape, strict=True)
    )
