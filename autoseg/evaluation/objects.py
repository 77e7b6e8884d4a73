"""Objects of two masks of one class, and which of them overlap: one sparse table for all metrics.

Read `pair_objects` first. Maps of numbers are looked at once; what is counted from then on are
objects, and pairs of them that share voxels, of which there are few.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Numbers = NDArray[np.integer[Any]]

VOXELS_AT_ONCE = 2**24
LEAST_IOU = 0.5  # of a match: above it an object has no choice of another


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of objects that share voxels: their indices from 0, and how many voxels."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    vox: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Reference objects found, predicted ones that are none, and reference objects missed."""

    found: int
    false: int
    missed: int


@dataclass(frozen=True)
class PairedObjects:
    """The objects of a prediction and a reference, in the order of their numbers from 1.

    Sizes and maps are of what is annotated. `may_be_false` tells of predicted objects whether they
    count as false where they match nothing: those that lie by more than half where nobody has
    annotated do not, as in panopticapi. `confidences` are mean probabilities inside predicted
    objects, or the scores that are told of them; without either all are 1.
    """

    predicted: Numbers  # [z, y, x]
    reference: Numbers  # [z, y, x]
    predicted_vox: NDArray[np.int64]  # [predicted]
    reference_vox: NDArray[np.int64]  # [reference]
    may_be_false: NDArray[np.bool_]  # [predicted]
    confidences: NDArray[np.float64]  # [predicted]
    overlaps: Overlaps

    @cached_property
    def ious(self) -> NDArray[np.float64]:
        """|A and B| / |A or B| of the pairs that overlap."""
        pairs = self.overlaps
        sizes = self.predicted_vox[pairs.first] + self.reference_vox[pairs.second]
        ious: NDArray[np.float64] = pairs.vox / (sizes - pairs.vox)
        return ious

    @cached_property
    def matched_ious(self) -> NDArray[np.float64]:
        """The IoU [predicted] of each predicted object with the reference that is its own, or 0.

        Above 0.5 there is no choice; of two that are half a reference each, the more confident has
        it.
        """
        return self.matched_from(LEAST_IOU)

    def matched_from(self, least_iou: float) -> NDArray[np.float64]:
        """The same where at least an IoU makes a match, each object in one: the most confident
        predicted object chooses first, and takes the reference that it overlaps most."""
        matched = np.zeros(len(self.predicted_vox))
        taken = np.zeros(len(self.reference_vox), bool)
        pairs = np.flatnonzero(self.ious >= least_iou)
        first, second = self.overlaps.first[pairs], self.overlaps.second[pairs]
        for i in np.lexsort((-self.ious[pairs], first, -self.confidences[first])):
            if not matched[first[i]] and not taken[second[i]]:
                matched[first[i]] = self.ious[pairs[i]]
                taken[second[i]] = True
        return matched

    def counts_at(self, iou: float, strictly: bool = False) -> Counts:
        """Matches of at least an IoU, or of strictly more, from 0.5 on."""
        matched = self.matched_ious > iou if strictly else self.matched_ious >= iou
        return self._counts(int(np.count_nonzero(matched)), matched)

    def touching(self, least_vox: int) -> Counts:
        """References that share some voxels with any prediction, and predictions with none."""
        enough = self.overlaps.vox >= least_vox
        predicted = np.zeros(len(self.predicted_vox), bool)
        predicted[self.overlaps.first[enough]] = True
        return self._counts(len(np.unique(self.overlaps.second[enough])), predicted)

    def _counts(self, found: int, matched: NDArray[np.bool_]) -> Counts:
        """Of so many references found, by those predicted objects."""
        false = int(np.count_nonzero(self.may_be_false & ~matched))
        return Counts(found, false, len(self.reference_vox) - found)


def pair_objects(
    predicted: Numbers,
    reference: Numbers,
    annotated: Mask | None = None,
    probability: NDArray[np.floating[Any]] | None = None,
) -> PairedObjects:
    """Compare two maps [z, y, x] of objects numbered from 1, in those voxels that are annotated."""
    count = int(predicted.max(initial=0))
    whole_vox = inside_vox = _sizes_vox(predicted, count)
    if annotated is not None:
        predicted = np.where(annotated, predicted, 0)
        inside_vox = _sizes_vox(predicted, count)
    confidences = np.ones(count)
    if probability is not None:
        confidences = _mean_inside(predicted, inside_vox, probability)
    return PairedObjects(
        predicted,
        reference,
        inside_vox,
        _sizes_vox(reference, int(reference.max(initial=0))),
        2 * inside_vox >= whole_vox,
        confidences,
        find_overlaps(predicted, reference),
    )


def number_objects(mask: Mask, ids: Numbers | None = None) -> Numbers:
    """The objects of a mask [z, y, x] numbered from 1: those of given ids, or its components.

    Components touch by face, edge or corner.
    """
    numbers: Numbers
    if ids is None:
        # Bytes, since cc3d 4.1 fails on lines of booleans.
        whole = np.ascontiguousarray(mask).view(np.uint8)
        numbers = cc3d.connected_components(whole, connectivity=26)
    else:
        numbers, _ = fastremap.renumber(np.where(mask, ids, 0), start=1, preserve_zero=True)
    return numbers


def find_overlaps(first: Numbers, second: Numbers) -> Overlaps:
    """The objects of two maps of numbers that share voxels."""
    box = occupied_box(second != 0)
    first, second = first[box], second[box]
    base = int(second.max(initial=0)) + 1
    keys, voxels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for part in _slabs(first):
        a, b = first[part], second[part]
        both = (a != 0) & (b != 0)
        shared = a[both].astype(np.uint64) * np.uint64(base) + b[both].astype(np.uint64)
        found, counts = fastremap.unique(shared, return_counts=True)
        keys.append(found.astype(np.int64))
        voxels.append(counts.astype(np.int64))
    pairs, rows = np.unique(np.concatenate(keys), return_inverse=True)
    vox = np.bincount(rows, np.concatenate(voxels), len(pairs)).astype(np.int64)
    return Overlaps(pairs // base - 1, pairs % base - 1, vox)


def occupied_box(mask: Mask, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box that holds a mask, with a margin; empty if the mask is.

    It may end beyond the array.
    """
    axes = range(mask.ndim)
    places = [np.flatnonzero(mask.any(axis=tuple({*axes} - {axis}))) for axis in axes]
    if not len(places[0]):
        return (slice(0, 0),) * mask.ndim
    return tuple(slice(max(0, int(p[0]) - margin), int(p[-1]) + 1 + margin) for p in places)


def _sizes_vox(numbers: Numbers, count: int) -> NDArray[np.int64]:
    """Voxels [object] of the objects 1 to `count`."""
    found, voxels = fastremap.unique(numbers, return_counts=True)
    sizes = np.zeros(count + 1, np.int64)
    sizes[found.astype(np.int64)] = voxels
    return sizes[1:]


def _mean_inside(
    numbers: Numbers, sizes_vox: NDArray[np.int64], values: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """The mean [object] of a map inside each object; 0 for those without voxels."""
    sums = np.zeros(len(sizes_vox) + 1)
    for part in _slabs(numbers):
        inside = numbers[part] != 0
        objects = numbers[part][inside].astype(np.int64)
        sums += np.bincount(objects, values[part][inside], len(sums))
    means: NDArray[np.float64] = sums[1:] / np.maximum(sizes_vox, 1)
    return means


def _slabs(array: NDArray[Any]) -> Iterator[slice]:
    """Ranges along the first axis, so that what is made of their voxels stays small."""
    step = max(1, VOXELS_AT_ONCE * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
