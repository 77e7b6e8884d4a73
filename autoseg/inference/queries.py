"""What queries find in patches: scores of classes, which are averaged, and objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.geometry import Shape3
from autoseg.inference.ensemble import with_disagreement
from autoseg.inference.joining import FoundInPatch, SeenObjects
from autoseg.inference.merging import DenseSums, Merger
from autoseg.inference.restore import Span
from autoseg.networks.blocks import resized
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.tasks.query_layout import QueryLayout
from autoseg.tasks.voxel_answer import VoxelAnswer

INSIDE = 0.5  # of a mask's probability


class QuerySums:
    """Sums of scores, as of any dense outputs, and the objects of a column's patches.

    A patch is what all networks say of it and of its mirror images [network, mirror image, query,
    class + 1 + voxel].
    """

    def __init__(
        self,
        sums: DenseSums,
        layout: QueryLayout,
        answer: VoxelAnswer,
        shows_disagreement: bool,
        objects: SeenObjects | None,
    ) -> None:
        self.sums, self.layout, self.answer = sums, layout, answer
        self.shows_disagreement = shows_disagreement
        self.objects = objects
        self.top = 0  # of the current row of patches

    def add(self, logits: torch.Tensor, starts: Sequence[int]) -> None:
        looks = logits.flatten(0, 1)
        found = self.layout.unpacked(looks)
        scores = resized(self.layout.scores(looks), self.layout.patch_vox)
        scores = scores.view(*logits.shape[:2], *scores.shape[1:])
        each = scores.mean(1)  # [network, class, z, y, x]
        if self.shows_disagreement:
            self.sums.add(with_disagreement([one[None] for one in each], self.answer)[0], starts)
        else:
            self.sums.add(each.mean(0), starts)
        if self.objects is not None:
            y, x = starts
            self.objects.add((self.top, y, x), found_in_patch(found, self.layout))

    def means(self, low: int, high: int) -> Iterator[torch.Tensor]:
        return self.sums.means(low, high)

    def advance(self, count: int) -> None:
        self.sums.advance(count)
        self.top += count

    def check(self) -> None:
        self.sums.check()


@dataclass(frozen=True, slots=True)
class QueryMerging:
    """Makes what merges the patches of a column."""

    layout: QueryLayout
    answer: VoxelAnswer
    shows_disagreement: bool
    objects: SeenObjects | None

    def __call__(self, depth: int, spans: Sequence[Span], weight: torch.Tensor) -> Merger:
        sums = DenseSums(depth, spans, weight)
        return QuerySums(sums, self.layout, self.answer, self.shows_disagreement, self.objects)


def found_in_patch(found: QueryOutputs, layout: QueryLayout) -> list[list[FoundInPatch]]:
    """The objects of each look at a patch: masks of queries whose likeliest class is one of things,
    and sure enough, be it less likely than no object; at the patch's resolution, the surest first.
    """
    best = found.classes.softmax(-1)[..., :-1].max(-1)
    things = torch.zeros_like(best.indices, dtype=torch.bool)
    for index in layout.plan.things:
        things |= best.indices == index
    kept = (things & (best.values >= layout.plan.object_score)).cpu().numpy()
    kinds, scores = best.indices.cpu().numpy(), best.values.cpu().numpy()
    looks: list[list[FoundInPatch]] = []
    for look in range(len(kept)):
        own = np.flatnonzero(kept[look])
        own = own[np.argsort(-scores[look, own], kind="stable")]
        objects = []
        for query in own.tolist():
            mask = resized(found.masks[look, query][None, None], layout.patch_vox)[0, 0]
            cut = _cut_out(mask.sigmoid().cpu().numpy())
            if cut is not None:
                kind, score = int(kinds[look, query]), float(scores[look, query])
                objects.append(FoundInPatch(kind, score, *cut))
        looks.append(objects)
    return looks


def _cut_out(
    probability: NDArray[np.float32],
) -> tuple[Shape3, NDArray[np.float32]] | None:
    """Where a mask begins in its patch, and its probabilities in the smallest box around it."""
    inside = np.nonzero(probability >= INSIDE)
    if not len(inside[0]):
        return None
    z, y, x = (int(along.min()) for along in inside)
    ends = [int(along.max()) + 1 for along in inside]
    box = (slice(z, ends[0]), slice(y, ends[1]), slice(x, ends[2]))
    return (z, y, x), probability[box].copy()
