"""What queries lose: on classes, and on the masks that they were matched with, at points."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from autoseg.networks.deformable import sampled_at
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.run_plan import MatchingPlan
from autoseg.tasks.mask_targets import MaskTargets, corners_at
from autoseg.tasks.matching import SMOOTH, drawn_places, matched
from autoseg.tasks.task import SumUp


@dataclass(frozen=True, slots=True)
class QueryLosses:
    """Of one layer: cross-entropy of classes, and of masks, and Dice of masks; weighted nowhere."""

    classes: torch.Tensor
    masks: torch.Tensor
    dice: torch.Tensor


def query_loss(
    layers: Sequence[QueryOutputs], targets: MaskTargets, plan: MatchingPlan, across: SumUp
) -> torch.Tensor:
    """The weighted sum over all layers."""
    total = torch.zeros((), device=targets.masks.device)
    for losses in layer_losses(layers, targets, plan, across):
        total = (
            total
            + plan.class_weight * losses.classes
            + plan.mask_weight * losses.masks
            + plan.dice_weight * losses.dice
        )
    return total


def layer_losses(
    layers: Sequence[QueryOutputs], targets: MaskTargets, plan: MatchingPlan, across: SumUp
) -> list[QueryLosses]:
    """The losses of each layer, with the matches that suit it. Means are over the masks of all
    processes that share a batch, or over their queries, weighted."""
    matches = matched(layers, targets, plan)
    sums = []
    for found, pairs in zip(layers, matches, strict=True):
        of_classes = _class_sums(found.classes, targets.classes, pairs, plan)
        of_masks = mask_losses(found.masks, targets, pairs, plan)
        sums.append(torch.stack((*of_classes, *of_masks, targets.count.float())))
    return [
        QueryLosses(classes / weight, masks / count.clamp_min(1), dice / count.clamp_min(1))
        for classes, weight, masks, dice, count in across(torch.stack(sums))
    ]


def mask_losses(
    masks: torch.Tensor, targets: MaskTargets, pairs: torch.Tensor, plan: MatchingPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and Dice of matched masks, summed over matches [sample, query and mask, match];
    points that nobody annotated count nowhere."""
    samples, queries, own = pairs
    logits = masks[samples, queries][:, None]  # [match, 1, *space]
    with torch.no_grad():
        places = telling_places(logits, plan)
        corners = corners_at(targets.masks, places, samples)
        truth, known = corners.of(own), corners.known()  # [match, point]
    seen = sampled_at(logits, places[:, None])[:, 0, 0]  # [match, point]
    each = functional.binary_cross_entropy_with_logits(seen, truth, reduction="none") * known
    cross_entropy = (each.sum(1) / known.sum(1).clamp_min(1)).sum()
    probability = seen.sigmoid() * known
    both, total = (probability * truth).sum(1), probability.sum(1) + truth.sum(1)
    return cross_entropy, (1 - (2 * both + SMOOTH) / (total + SMOOTH)).sum()


def telling_places(logits: torch.Tensor, plan: MatchingPlan) -> torch.Tensor:
    """Places [match, point, axis] to compare masks [match, 1, *space] at: of many random ones those
    where the network is least sure, and further random ones (Kirillov et al. 2020,
    arXiv:1912.08193)."""
    count, dims, device = len(logits), logits.ndim - 2, logits.device
    many = drawn_places(count, int(plan.points * plan.oversampling), dims, device)
    doubt = -sampled_at(logits, many[:, None])[:, 0, 0].abs()  # [match, point]
    unsure = int(plan.uncertain_share * plan.points)
    chosen = doubt.topk(unsure, dim=1).indices[..., None].expand(-1, -1, dims)
    others = drawn_places(count, plan.points - unsure, dims, device)
    return torch.cat((many.gather(1, chosen), others), dim=1)


def _class_sums(
    logits: torch.Tensor, classes: torch.Tensor, pairs: torch.Tensor, plan: MatchingPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy of all queries, and their weights; those without a mask should say
    that there is none."""
    samples, queries, own = pairs
    nothing = logits.shape[2] - 1
    wanted = torch.full(logits.shape[:2], nothing, device=logits.device)
    wanted = wanted.index_put((samples, queries), classes[samples, own])
    weight = torch.where(wanted == nothing, plan.no_object_weight, 1.0)
    each = functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    return (weight * each).sum(), weight.sum()
