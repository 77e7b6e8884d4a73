"""Lesions as BraTS 2023 counts them: parts that nearly touch are one, and so is what is predicted.

By the rule of the challenge (BraTS-2023-Metrics); dilations and overlaps are of all lesions at
once, since what is dilated together touches where one by one does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    occupied_box,
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
    found = np.intersect1d(np.flatnonzero(lesions.scored), lesions.near.second)
    if not len(found):
        return
    boxes = [
        ndimage.find_objects(numbers) for numbers in (components.predicted, components.reference)
    ]
    for lesion in found:
        predicted = lesions.near.first[lesions.near.second == lesion]
        reference = np.flatnonzero(lesions.lesion_of == lesion)
        box = _around([boxes[0][i] for i in predicted] + [boxes[1][i] for i in reference])
        yield (
            np.isin(components.predicted[box], predicted + 1),
            np.isin(components.reference[box], reference + 1),
        )


def _nearby(components: PairedObjects, dilations: int) -> tuple[NDArray[np.int64], Overlaps]:
    """The lesion that each reference component is a part of, and what is predicted near lesions."""
    pairs, lesions = components.overlaps, len(components.reference_vox)
    if not lesions or (lesions == 1 and len(pairs.first) == len(components.predicted_vox)):
        return np.zeros(lesions, np.int64), pairs  # nothing is left to find
    box = occupied_box(components.reference != 0, dilations)
    reference = components.reference[box]
    dilated = number_objects(_dilated(reference, dilations))
    lesion_of = find_overlaps(reference, dilated).second
    return lesion_of, find_overlaps(components.predicted[box], dilated)


def _dilated(numbers: Numbers, dilations: int) -> Mask:
    """All objects dilated, box by box where that is less work than all at once."""
    whole: Mask = numbers != 0
    boxes = [_around([box], dilations) for box in ndimage.find_objects(numbers)]
    if sum(SETTING_UP_VOX + whole[box].size for box in boxes) > whole.size:
        boxes = [(slice(None),) * whole.ndim]
    dilated: Mask = np.zeros_like(whole)
    for box in boxes:
        dilated[box] |= ndimage.binary_dilation(whole[box], EDGE_NEIGHBOURS, dilations)
    return dilated


def _around(boxes: Sequence[Box], margin: int = 0) -> Box:
    """A box that holds others, with a margin; it may end beyond the array."""
    return tuple(
        slice(max(0, min(p.start for p in parts) - margin), max(p.stop for p in parts) + margin)
        for parts in zip(*boxes, strict=True)
    )
