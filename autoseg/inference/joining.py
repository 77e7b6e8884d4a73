"""Objects of overlapping patches, joined where they overlap: none is counted twice, none is cut.

A look is one network's answer for a patch, or for a mirror image of it. Objects of two looks are
one where, in what both looks saw, they overlap enough; two objects of one look never are. So
patches, mirror images and folds are joined by one rule. Scores are means over all looks at an
object's middle by how near it is to theirs, where those that missed it count nothing, as those of
nnDetection's boxes (Baumgartner et al. 2021, arXiv:2106.00817).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Shape3
from autoseg.preprocessing.resample import resample_numbers

JOINED_FROM = 0.5  # intersection over union in what both looks saw
INSIDE = 0.5  # of the mean probability of a mask
FOUND_FROM = 0.5  # of the looks at an object's middle, by their weights there

Floats = NDArray[np.float32]
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class FoundInPatch:
    """An object of one look: its class index, how probable that is, and where its box [z, y, x] of
    mask probabilities starts in the patch."""

    kind: int
    score: float
    start: Shape3
    probability: Floats


@dataclass(frozen=True, slots=True)
class JoinedObjects:
    """Objects of a whole scan: their numbers [z, y, x] from 1, 0 elsewhere; and the class index and
    the score of each."""

    numbers: NDArray[np.int32]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]

    def within(self, classes: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Their numbers on a grid [z, y, x] of class indices that may be finer: every object is
        where its class is, and of the same voxels those beside an object are its."""
        found = np.zeros(classes.shape, np.int32)
        for kind in sorted(set(self.kinds)):
            own = np.array([0, *(n if k == kind else 0 for n, k in enumerate(self.kinds, 1))])
            numbers = own.astype(np.int32)[self.numbers]
            found += resample_numbers(numbers, classes == kind)
        return found


@dataclass(frozen=True, slots=True)
class _Placed:
    """An object of a look, and the box of the padded scan that it lies in."""

    look: int
    found: FoundInPatch
    box: Slices

    @property
    def size_vox(self) -> int:
        return int(np.count_nonzero(self.found.probability >= INSIDE))


@dataclass(slots=True)
class SeenObjects:
    """The objects of all looks so far, at patches of one size, whose voxels weigh `weight`
    [z, y, x]; starts of patches are in a padded scan. Of an object at least `kept_share` must not
    be another's."""

    weight: Floats
    kept_share: float
    placed: list[_Placed] = field(default_factory=list)
    starts: list[Shape3] = field(default_factory=list)  # of the patch of each look

    def add(self, start: Shape3, looks: Sequence[Sequence[FoundInPatch]]) -> None:
        """Objects of each look at the patch that starts there; nothing is added twice, since
        columns may share patches."""
        if start in self.starts:
            return
        for objects in looks:
            number = len(self.starts)
            self.starts.append(start)
            self.placed += [
                _Placed(number, found, _placed_box(found, start)) for found in _once(objects)
            ]

    def joined(self, padded_vox: Shape3, crop: Slices) -> JoinedObjects:
        """All of them, where the padded scan has a size, of which the crop is the scan itself.

        The surest come first. A voxel is of the object that it is the most probably in, where
        several looks agree on it; objects of which too little is left are parts of others.
        """
        starts = np.array(self.starts).reshape(-1, 3)
        merged = [self._merged(members, starts) for members in self._groups()]
        sure = [one for one in merged if one is not None]
        sure.sort(key=lambda one: (-one.score, [s.start for s in one.box]))
        numbers = _painted(sure, padded_vox)
        kept = [
            one
            for number, one in enumerate(sure, 1)
            if one.left(numbers[one.box] == number) >= self.kept_share
        ]
        final = _painted(kept, padded_vox)[crop]
        there = np.unique(final[final > 0]).tolist()  # some may lie in the padding alone
        table = np.zeros(len(kept) + 1, np.int32)
        table[there] = np.arange(1, len(there) + 1)
        return JoinedObjects(
            numbers=table[final],
            kinds=tuple(kept[n - 1].kind for n in there),
            scores=tuple(kept[n - 1].score for n in there),
        )

    def _groups(self) -> list[list[_Placed]]:
        """Objects that are one, the largest agreements first."""
        group_of = list(range(len(self.placed)))
        groups = {index: [index] for index in group_of}
        for _, one, other in sorted(self._pairs(), key=lambda pair: (-pair[0], *pair[1:])):
            a, b = group_of[one], group_of[other]
            looks = [{self.placed[i].look for i in groups[n]} for n in (a, b)]
            if a == b or looks[0] & looks[1]:
                continue
            for index in groups[b]:
                group_of[index] = a
            groups[a] += groups.pop(b)
        return [[self.placed[i] for i in members] for members in groups.values()]

    def _pairs(self) -> Iterator[tuple[float, int, int]]:
        """Objects of one class in two looks that are one by themselves, and how well they agree.

        Those whose boxes have too little in common are not compared voxel by voxel.
        """
        boxes = np.array([[(s.start, s.stop) for s in one.box] for one in self.placed])
        patches = np.array(
            [[(s.start, s.stop) for s in self._patch(one.look)] for one in self.placed]
        )
        kinds = np.array([(one.look, one.found.kind) for one in self.placed])
        sizes_vox = np.array([one.size_vox for one in self.placed])
        for index in range(len(self.placed) - 1):
            later = slice(index + 1, None)
            shared_vox = _shared_vox(boxes[index], boxes[later])
            alike = (kinds[later, 0] != kinds[index, 0]) & (kinds[later, 1] == kinds[index, 1])
            whole = _holds(patches[later], boxes[index]) & _holds(patches[index], boxes[later])
            total_vox = sizes_vox[index] + sizes_vox[later]
            most_vox = np.minimum(shared_vox, np.minimum(sizes_vox[index], sizes_vox[later]))
            hopeless = whole & (most_vox < JOINED_FROM * (total_vox - most_vox))
            for other in np.flatnonzero(alike & (shared_vox > 0) & ~hopeless).tolist():
                pair = self.placed[index], self.placed[index + 1 + other]
                agreement = self._agreement(*pair, int(total_vox[other]) if whole[other] else None)
                if agreement >= JOINED_FROM:
                    yield agreement, index, index + 1 + other

    def _agreement(self, one: _Placed, other: _Placed, total_vox: int | None) -> float:
        """Intersection over union of two objects in the part that both looks saw, in which they
        have so many voxels together, where that is known."""
        if total_vox is None:
            seen = _both(self._patch(one.look), self._patch(other.look))
            total_vox = sum(int(_within(placed, seen).sum()) for placed in (one, other))
        shared = _both(one.box, other.box)
        both = int((_within(one, shared) & _within(other, shared)).sum())
        return both / max(1, total_vox - both)

    def _patch(self, look: int) -> Slices:
        return _box(self.starts[look], self.weight.shape)

    def _merged(self, members: Sequence[_Placed], starts: NDArray[np.int64]) -> "_Merged | None":
        """One object of all; None where most looks at its middle did not see it. Patches of looks
        have `starts` [look, axis]."""
        box = _around([placed.box for placed in members])
        total, weights = (np.zeros([s.stop - s.start for s in box], np.float32) for _ in range(2))
        for placed in members:
            patch = self._patch(placed.look)
            reached = _both(patch, box)
            own, there = (self.weight[_inside(part, patch)] for part in (placed.box, reached))
            total[_inside(placed.box, box)] += own * placed.found.probability
            weights[_inside(reached, box)] += there
        inside = total >= INSIDE * np.maximum(weights, np.finfo(np.float32).tiny)
        if not inside.any():
            return None
        shares = self._shares(_middle(inside, box), starts)
        shares = shares[[placed.look for placed in members]]
        share = float(shares.sum())
        if share < FOUND_FROM:
            return None
        scores = np.array([placed.found.score for placed in members])
        score = float((shares * scores).sum() / share)
        probable = float((total[inside] / weights[inside]).mean())
        strength = np.where(inside, score * total, 0).astype(np.float32)
        return _Merged(members[0].found.kind, score * probable * share, box, strength)

    def _shares(self, middle: Shape3, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Each look's share of all weights at a voxel [look], 0 if it does not see it."""
        offsets = np.array(middle) - starts  # [look, axis]
        reaching = ((offsets >= 0) & (offsets < self.weight.shape)).all(axis=1)
        weights = np.zeros(len(offsets))
        weights[reaching] = self.weight[tuple(offsets[reaching].T)]
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares


@dataclass(frozen=True, slots=True)
class _Merged:
    """An object of all looks, in a box of the padded scan: how strongly each voxel is of it, 0
    where it is not."""

    kind: int
    score: float
    box: Slices
    strength: Floats

    def left(self, own: NDArray[np.bool_]) -> float:
        """The share of it that the voxels which are given to it make up."""
        return float(np.count_nonzero(own) / np.count_nonzero(self.strength))


def _once(objects: Sequence[FoundInPatch]) -> list[FoundInPatch]:
    """Those of a look that are not a surer one again; the surest come first."""
    kept: list[FoundInPatch] = []
    for found in objects:
        same = (one for one in kept if one.kind == found.kind)
        if all(_overlap(found, one) < JOINED_FROM for one in same):
            kept.append(found)
    return kept


def _overlap(one: FoundInPatch, other: FoundInPatch) -> float:
    """Intersection over union of two objects of one look."""
    boxes = [_box(found.start, found.probability.shape) for found in (one, other)]
    shared = _both(*boxes)
    masks = [
        found.probability[_inside(shared, box)] >= INSIDE
        for found, box in zip((one, other), boxes, strict=True)
    ]
    both = np.count_nonzero(masks[0] & masks[1])
    total = sum(np.count_nonzero(found.probability >= INSIDE) for found in (one, other))
    return float(both / (total - both))


def _painted(objects: Sequence[_Merged], shape: Shape3) -> NDArray[np.int32]:
    """Each voxel's object, from 1: the one that it is most strongly of."""
    best, numbers = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for number, one in enumerate(objects, 1):
        stronger = one.strength > best[one.box]
        numbers[one.box][stronger] = number
        np.maximum(best[one.box], one.strength, out=best[one.box])
    return numbers


def _middle(inside: NDArray[np.bool_], box: Slices) -> Shape3:
    """The voxel of an object that is nearest to its centre."""
    voxels = np.argwhere(inside)
    nearest = voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
    z, y, x = (int(n) + s.start for n, s in zip(nearest, box, strict=True))
    return z, y, x


def _shared_vox(box: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Voxels that a box [axis, 2] has in common with each of others [n, axis, 2]."""
    lows = np.maximum(box[:, 0], others[:, :, 0])
    sides = np.minimum(box[:, 1], others[:, :, 1]) - lows
    shared_vox: NDArray[np.int64] = sides.clip(0).prod(axis=1)
    return shared_vox


def _holds(outer: NDArray[np.int64], inner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether boxes [..., axis, 2] lie whole in others."""
    along = (outer[..., 0] <= inner[..., 0]) & (inner[..., 1] <= outer[..., 1])
    within: NDArray[np.bool_] = np.logical_and.reduce(along, axis=-1)
    return within


def _placed_box(found: FoundInPatch, start: Shape3) -> Slices:
    begin = [s + o for s, o in zip(start, found.start, strict=True)]
    return _box(begin, found.probability.shape)


def _box(start: Sequence[int], shape: Sequence[int]) -> Slices:
    z, y, x = (slice(s, s + n) for s, n in zip(start, shape, strict=True))
    return z, y, x


def _both(one: Slices, other: Slices) -> Slices:
    """What two boxes have in common, empty where they do not meet."""
    lows = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    stops = [min(a.stop, b.stop) for a, b in zip(one, other, strict=True)]
    z, y, x = (slice(low, max(low, stop)) for low, stop in zip(lows, stops, strict=True))
    return z, y, x


def _around(boxes: Sequence[Slices]) -> Slices:
    """The smallest box that holds all of some."""
    z, y, x = (
        slice(min(s.start for s in along), max(s.stop for s in along))
        for along in zip(*boxes, strict=True)
    )
    return z, y, x


def _inside(box: Slices, outer: Slices) -> Slices:
    """A box as an index of what lies in an outer one."""
    z, y, x = (slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True))
    return z, y, x


def _within(placed: _Placed, box: Slices) -> NDArray[np.bool_]:
    """Which voxels of a box, as far as it meets an object's own, are of the object."""
    part = _inside(_both(placed.box, box), placed.box)
    mask: NDArray[np.bool_] = placed.found.probability[part] >= INSIDE
    return mask
