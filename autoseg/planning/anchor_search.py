"""Boxes to look for objects with, found from the objects themselves in a fraction of a second.

nnDetection searches 27 for each place by differential evolution on a GPU (Baumgartner et al. 2021,
arXiv:2106.00817); YOLO9000 clusters boxes by how much they overlap (Redmon and Farhadi 2017,
arXiv:1612.08242). Here clustering is done for each resolution, with as few boxes as serve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.planning.box_network_plan import AnchorLevel
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import NETWORK
from autoseg.planning.network_plan import BoxNetworkPlan, PerAxis

ANCHOR_VOX = 4.0  # how wide an object is, about, in voxels of the level that it is looked for at
RANGE = (2.5, 97.5)  # percentiles of the objects' levels: those of fewer have no anchors
LEAST_OBJECTS = 5  # for each anchor of a level, to be clustered there
ITERATIONS = 30

Sizes = NDArray[np.float64]  # [object, axis] in voxels


@dataclass(frozen=True, slots=True)
class AnchorSearch:
    """The finest stride that may be looked at, and when there are enough sizes for a place: at
    most so many, or the mean best IoU of objects, all of them centred, is as wanted."""

    finest_stride: int
    most: int
    wanted_overlap: float


@dataclass(frozen=True, slots=True)
class FoundAnchors:
    """Anchors of stages one below another, and the mean over objects of the best IoU of any."""

    levels: tuple[AnchorLevel, ...]
    overlap: float


def find_anchors(
    sizes_vox: Sizes, strides: Sequence[PerAxis], patch: PerAxis, search: AnchorSearch
) -> FoundAnchors:
    """As few sizes for each place as suffice, of objects in a patch, by the strides of all stages.

    Objects that are larger than the patch are as large as it is, for more is never seen of them.
    """
    sizes = np.clip(sizes_vox, 1.0, np.array(patch, float))
    level = _level_of(sizes, strides, search.finest_stride)
    first, last = (int(np.percentile(level, p, method="nearest")) for p in RANGE)
    level = np.clip(level, first, last)
    found = FoundAnchors((), 0.0)
    for count in range(1, search.most + 1):
        levels = tuple(
            AnchorLevel(stage=stage, sizes_vox=_sizes_at(sizes, level, strides, stage, count))
            for stage in range(first, last + 1)
        )
        every = np.concatenate([np.array(one.sizes_vox) for one in levels])
        found = FoundAnchors(levels, float(centred_iou(sizes, every).max(axis=1).mean()))
        if found.overlap >= search.wanted_overlap:
            break
    return found


def conclude_anchors(log: DecisionLog, network: BoxNetworkPlan, sizes_vox: Sizes) -> None:
    """Record which sizes were found, and how well objects overlap with the best of them."""
    levels = network.anchors
    every = np.concatenate([np.array(level.sizes_vox) for level in levels])
    overlap = float(centred_iou(sizes_vox, every).max(axis=1).mean())
    log.conclude_also(
        "anchors",
        [[level.stage, level.sizes_vox] for level in levels],
        of=NETWORK,
        because=f"boxes of {len(levels[0].sizes_vox)} sizes about each place of stages "
        f"{levels[0].stage} to {levels[-1].stage}, clustered from those of {len(sizes_vox)} "
        f"objects, whose IoU with the best of them is {overlap:.2f} in the mean",
    )


def centred_iou(sizes: Sizes, others: Sizes) -> NDArray[np.float64]:
    """IoU of boxes about one middle [object, other]."""
    both = np.minimum(sizes[:, None], others[None]).prod(axis=2)
    total = sizes.prod(axis=1)[:, None] + others.prod(axis=1)[None]
    iou: NDArray[np.float64] = both / (total - both)
    return iou


def _level_of(sizes: Sizes, strides: Sequence[PerAxis], finest: int) -> NDArray[np.int64]:
    """The stage at which each object is nearest to ANCHOR_VOX wide, in octaves [object]."""
    coarse = [max(stride) >= finest for stride in strides]
    first = coarse.index(True) if True in coarse else len(strides) - 1
    octaves = np.log2(np.array(strides[first:], float)).mean(axis=1)
    wanted = np.log2(sizes / ANCHOR_VOX).mean(axis=1)
    nearest: NDArray[np.int64] = first + np.abs(wanted[:, None] - octaves).argmin(axis=1)
    return nearest


def _sizes_at(
    sizes: Sizes, level: NDArray[np.int64], strides: Sequence[PerAxis], stage: int, count: int
) -> tuple[tuple[float, ...], ...]:
    """Of the objects of a level, or where these are few of all, as wide as those of the level."""
    own = sizes[level == stage]
    if len(own) < LEAST_OBJECTS * count:
        wanted = ANCHOR_VOX * np.exp2(np.log2(np.array(strides[stage], float)).mean())
        own = sizes * (wanted / np.exp(np.log(sizes).mean(axis=1)))[:, None]
    return tuple(tuple(round(float(n), 2) for n in size) for size in clustered(own, count))


def clustered(sizes: Sizes, count: int) -> Sizes:
    """So many sizes [cluster, axis], the smallest first, that objects overlap well with: k-means by
    IoU, whose middles are geometric means; the better of two beginnings."""
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    quantiles = ((np.arange(count) + 0.5) / count * len(sizes)).astype(int)
    begun = (sizes[order[quantiles]], _unlike(sizes, count))
    found = max(
        (_moved_to_means(sizes, middles) for middles in begun),
        key=lambda middles: float(centred_iou(sizes, middles).max(axis=1).mean()),
    )
    ascending: Sizes = found[np.argsort(found.prod(axis=1), kind="stable")]
    return ascending


def _unlike(sizes: Sizes, count: int) -> Sizes:
    """The most usual object, then each time the one that is least like any so far."""
    middles: Sizes = np.exp(np.log(sizes).mean(axis=0))[None]
    while len(middles) < count:
        least = centred_iou(sizes, middles).max(axis=1).argmin()
        middles = np.concatenate((middles, sizes[least : least + 1]))
    return middles


def _moved_to_means(sizes: Sizes, middles: Sizes) -> Sizes:
    for _ in range(ITERATIONS):
        nearest = centred_iou(sizes, middles).argmax(axis=1)
        moved = middles.copy()
        for index in np.unique(nearest):
            moved[index] = np.exp(np.log(sizes[nearest == index]).mean(axis=0))
        if np.allclose(moved, middles):
            break
        middles = moved
    return middles
