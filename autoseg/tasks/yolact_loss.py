"""What YOLACT's boxes lose (Bolya et al. 2019, arXiv:1904.02689): on classes, on where they are,
and on their masks."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from autoseg.networks.box_geometry import centres, pairwise_iou
from autoseg.networks.chosen_rows import taken
from autoseg.networks.yolact import YolactOutputs, changes_to, summed_masks, within
from autoseg.planning.model_plan import CandidatesPlan
from autoseg.tasks.chosen import at_random
from autoseg.tasks.placed_objects import PlacedObjects
from autoseg.tasks.task import SumUp

ALIKE, UNLIKE = 0.5, 0.4  # overlap with an object from which a box is its, or below which no one's
NEGATIVES = 3.0  # for each box of an object those without that are taken for one the most
BOX_WEIGHT, MASK_WEIGHT = 1.5, 6.125  # beside that of classes, as published


@dataclass(frozen=True, slots=True)
class MatchedBoxes:
    """The object of each box [batch, box]; whether it is to find it, or to say that there is none;
    others are neither, as are those of whose middle nothing is known."""

    own: torch.Tensor
    finds: torch.Tensor
    empty: torch.Tensor


def match_boxes(anchors: torch.Tensor, objects: PlacedObjects) -> MatchedBoxes:
    """Each box with the object that it overlaps most, and each object with the best of its boxes,
    however little that overlaps it, of anchors [box, 2 x axis]."""
    there = objects.classes > 0  # [batch, object]
    boxes = objects.boxes * there[..., None]  # a box of no size overlaps nothing
    overlaps = pairwise_iou(boxes, anchors)  # [batch, object, box]
    best = overlaps.max(dim=1)
    # Of objects that share their best box the last one gets it.
    favourite = overlaps.argmax(dim=2)  # [batch, object]
    number = torch.arange(1, there.shape[1] + 1, device=there.device) * there
    claimed = torch.zeros_like(best.indices).scatter_reduce(1, favourite, number, "amax")
    own = torch.where(claimed > 0, claimed - 1, best.indices)
    finds = (best.values >= ALIKE) | (claimed > 0)
    known = objects.known_at(centres(anchors))
    return MatchedBoxes(own, finds, (best.values < UNLIKE) & ~finds & known)


def yolact_loss(
    found: YolactOutputs, objects: PlacedObjects, plan: CandidatesPlan, across: SumUp
) -> torch.Tensor:
    """The weighted sum of the three, each for a box that is to find an object."""
    matched = match_boxes(found.anchors, objects)
    boxes = taken(objects.boxes, matched.own)
    wanted = changes_to(found.anchors[None], boxes)
    off = functional.smooth_l1_loss(found.changes, wanted, reduction="none").sum(2) * matched.finds
    classes = class_losses(found.classes, objects, matched)
    box, counts = at_random(matched.finds)
    masks = _mask_losses(found, objects, plan, (box, taken(matched.own, box))) * counts
    sums = [values.sum() for values in (classes, off, matched.finds.float(), masks, counts)]
    of_classes, of_boxes, count, of_masks, drawn = across(torch.stack(sums))
    of_found = (of_classes + BOX_WEIGHT * of_boxes) / count.clamp_min(1)
    total: torch.Tensor = of_found + MASK_WEIGHT * of_masks / drawn.clamp_min(1)
    return total


def class_losses(
    logits: torch.Tensor, objects: PlacedObjects, matched: MatchedBoxes
) -> torch.Tensor:
    """Cross-entropy of each box that counts [batch, box], 0 of others: those with an object, and
    three times as many without, which are the least sure that there is none (OHEM: Liu et al. 2016,
    arXiv:1512.02325)."""
    classes = torch.where(matched.finds, objects.classes.gather(1, matched.own), 0)
    each = functional.cross_entropy(logits.transpose(1, 2), classes, reduction="none")
    hard = torch.where(matched.empty, each.detach(), -1.0)
    rank = hard.argsort(dim=1, descending=True).argsort(dim=1)
    wanted = (NEGATIVES * matched.finds.sum(1, keepdim=True)).clamp_min(NEGATIVES)
    return each * (matched.finds | (matched.empty & (rank < wanted)))


def _mask_losses(
    found: YolactOutputs,
    objects: PlacedObjects,
    plan: CandidatesPlan,
    pairs: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """The mean cross-entropy over the true box of the masks of some boxes, and the objects that
    they are to find, both [batch, n]."""
    box, own = pairs
    logits = summed_masks(taken(found.coefficients, box), found.prototypes)  # [batch, n, voxel]
    truth = objects.shares(own, plan.mask_stride)
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    size, patch = found.prototypes.shape[2:], objects.labels.shape[1:]
    inside = within(taken(objects.boxes, own), size, patch) * objects.known(plan.mask_stride)
    return (each * inside).sum(2) / inside.sum(2).clamp_min(1)
