"""Which boxes of a network are to find which object, and which of them are learned from; nothing
asks the device."""

from collections.abc import Sequence

import torch

from autoseg.networks.box_geometry import centres, iou_of_pairs, pairwise_iou
from autoseg.planning.run_plan import BoxLossPlan

NO_OBJECT, EITHER = -1, -2  # of boxes: they are to find none; it does not matter what they find
LEAST_OVERLAP = 1e-6


def matched_anchors(
    anchors: Sequence[torch.Tensor], boxes: torch.Tensor, there: torch.Tensor, plan: BoxLossPlan
) -> torch.Tensor:
    """The object of each anchor of all levels [anchor], or NO_OBJECT, or EITHER: of one sample's
    boxes [object, 2 x axis], as far as they are there [object]."""
    if plan.matching == "atss":
        return by_adaptive_overlap(anchors, boxes, there, plan.candidates)
    every = torch.cat([level.flatten(0, 1) for level in anchors])
    overlaps = (plan.negative_overlap, plan.positive_overlap)
    return by_overlap(every, boxes, there, overlaps)


def by_adaptive_overlap(
    anchors: Sequence[torch.Tensor], boxes: torch.Tensor, there: torch.Tensor, candidates: int
) -> torch.Tensor:
    """ATSS (Zhang et al. 2020, arXiv:1912.02424), as nnDetection has it: middles of anchors need
    not lie in the object. The `candidates` nearest places of each level, with all of their sizes,
    are compared with it; those are matched that overlap it by more than their mean and one standard
    deviation. An anchor of several objects is that one's which it overlaps most."""
    nearest, first = [], 0
    for level in anchors:
        apart = torch.cdist(centres(boxes), centres(level[:, 0]))  # [object, place]
        place = apart.topk(min(candidates, len(level)), dim=1, largest=False).indices
        sizes = torch.arange(level.shape[1], device=boxes.device)
        nearest.append((first + place[..., None] * level.shape[1] + sizes).flatten(1))
        first += level.shape[0] * level.shape[1]
    chosen = torch.cat(nearest, dim=1)  # [object, candidate]
    every = torch.cat([level.flatten(0, 1) for level in anchors])
    iou = iou_of_pairs(boxes[:, None], every[chosen])
    spread = iou.std(1, keepdim=True, correction=min(1, iou.shape[1] - 1))  # of one it is 0
    limit = iou.mean(1, keepdim=True) + spread
    good = torch.where((iou >= limit) & (iou > LEAST_OVERLAP) & there[:, None], iou, 0.0)
    best = good.new_zeros(len(every)).scatter_reduce(0, chosen.flatten(), good.flatten(), "amax")
    number = torch.arange(len(boxes), device=boxes.device)[:, None]
    winner = torch.where((good > 0) & (good == best[chosen]), number, NO_OBJECT)
    match = winner.new_full((len(every),), NO_OBJECT)
    return match.scatter_reduce(0, chosen.flatten(), winner.flatten(), "amax")


def by_overlap(
    boxes: torch.Tensor,
    objects: torch.Tensor,
    there: torch.Tensor,
    overlaps: tuple[float, float],
) -> torch.Tensor:
    """The object that each box overlaps most, from the second IoU on; none below the first; and of
    every object those boxes that overlap it best (Ren et al. 2015, arXiv:1506.01497)."""
    negative, positive = overlaps
    iou = torch.where(there[:, None], pairwise_iou(objects, boxes), 0.0)  # [object, box]
    best = iou.max(0)
    far = torch.where(best.values < negative, NO_OBJECT, EITHER)
    match = torch.where(best.values >= positive, best.indices, far)
    is_best = (iou == iou.amax(1, keepdim=True)) & (iou > LEAST_OVERLAP)
    needed = torch.where(is_best, iou, 0.0).max(0)
    return torch.where(needed.values > 0, needed.indices, match)


def matched_regions(
    boxes: torch.Tensor, objects: torch.Tensor, there: torch.Tensor, overlap: float
) -> torch.Tensor:
    """The object [batch, box] that boxes [batch, box, 2 x axis] overlap most, if by so much; else
    NO_OBJECT."""
    iou = torch.where(there[:, None], pairwise_iou(boxes, objects), 0.0)
    best = iou.max(2)
    return torch.where(best.values >= overlap, best.indices, NO_OBJECT)


def drawn(
    match: torch.Tensor, logits: torch.Tensor, plan: BoxLossPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which anchors with an object, and which without, are learned from [batch, anchor]: random
    ones, as many without as the plan's share asks for, among the likeliest (nnDetection's hard
    negatives: Baumgartner et al. 2021, arXiv:2106.00817)."""
    chance = torch.rand_like(logits)
    positive = first_of(match >= 0, chance, int(plan.positive_share * plan.anchors))
    each = (1 - plan.positive_share) / plan.positive_share
    wanted = (each * positive.sum(1, keepdim=True).clamp_min(1)).ceil()
    wanted = wanted.clamp_max(plan.anchors)
    likely = first_of(match == NO_OBJECT, -logits.detach(), wanted * plan.hard_pool)
    return positive, first_of(likely, chance, wanted)


def first_of(which: torch.Tensor, order: torch.Tensor, count: "int | torch.Tensor") -> torch.Tensor:
    """Of those in question [batch, n] as many as are wanted, of the lowest `order`."""
    ranks = torch.where(which, order, torch.inf).argsort(dim=1).argsort(dim=1)
    return which & (ranks < count)
