"""What boxes lose: that they are of objects, where these lie, of which class they are, and masks.

Means are over boxes, or masks, of all processes that share a batch.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from autoseg.networks.box_geometry import encoded, generalized_iou
from autoseg.networks.chosen_rows import taken
from autoseg.networks.deformable import centres as voxel_centres
from autoseg.networks.mask_rcnn import BoxOutputs
from autoseg.networks.point_rend import Points, SeenRegions
from autoseg.networks.region_heads import Regions
from autoseg.networks.region_proposals import Proposals
from autoseg.planning.run_plan import BoxLossPlan
from autoseg.tasks.box_matching import EITHER, NO_OBJECT, drawn, matched_anchors, matched_regions
from autoseg.tasks.box_targets import BoxTargets
from autoseg.tasks.mask_targets import corners_at
from autoseg.tasks.task import SumUp

SMOOTH = 1.0  # of Dice
BETA = 0.1  # of smooth L1, in shares of a box's sides


@dataclass(frozen=True, slots=True)
class BoxLosses:
    """Of proposals, of regions summed over steps, and of masks; weighted nowhere."""

    objectness: torch.Tensor
    proposals: torch.Tensor
    classes: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor

    def total(self, plan: BoxLossPlan) -> torch.Tensor:
        found = self.objectness + self.classes + plan.box_weight * (self.proposals + self.boxes)
        return found + plan.mask_weight * self.masks


def box_losses(
    outputs: BoxOutputs, targets: BoxTargets, plan: BoxLossPlan, across: SumUp
) -> BoxLosses:
    """All that a network of boxes loses, but for what its panoptic branch says."""
    objectness, proposals = proposal_losses(outputs.proposals, targets, plan, across)
    classes, boxes = objectness.new_zeros(()), objectness.new_zeros(())
    for step, overlap in zip(outputs.steps, plan.overlaps, strict=False):
        of_classes, of_boxes = region_losses(step, targets, (plan, overlap), across)
        classes, boxes = classes + of_classes, boxes + of_boxes
    match = matched_regions(outputs.boxes, targets.boxes, targets.there, plan.overlaps[0])
    masks = objectness.new_zeros(())
    for points in (_middles(outputs, targets), *outputs.points):
        masks = masks + mask_loss(points, targets, match, across)
    return BoxLosses(objectness, proposals, classes, boxes, masks)


def proposal_losses(
    proposals: Proposals, targets: BoxTargets, plan: BoxLossPlan, across: SumUp
) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy of the drawn anchors, and how far off the boxes of those with an object
    are."""
    every = torch.cat([level.flatten(0, 1) for level in proposals.anchors])
    references = every.expand(len(targets.boxes), -1, -1)
    with torch.no_grad():
        match = torch.stack(
            [
                matched_anchors(proposals.anchors, boxes, there, plan)
                for boxes, there in zip(targets.boxes, targets.there, strict=True)
            ]
        )  # [batch, anchor]
        known = targets.known_at(references)
        match = torch.where((match != NO_OBJECT) | known, match, EITHER)
        positive, negative = drawn(match, proposals.objectness, plan)
    each = functional.binary_cross_entropy_with_logits(
        proposals.objectness, positive.float(), reduction="none"
    )
    chosen = positive | negative
    objectness = _mean(each, chosen, across)
    off = _off(proposals.better, taken(targets.boxes, match.clamp_min(0)), references, plan)
    return objectness, _mean(off, positive, across)


def region_losses(
    step: Regions, targets: BoxTargets, plan: tuple[BoxLossPlan, float], across: SumUp
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the classes of all regions of a step, and how far off the boxes are of those
    that overlap an object by the step's IoU."""
    settings, overlap = plan
    match = matched_regions(step.boxes, targets.boxes, targets.there, overlap)
    positive, own = match >= 0, match.clamp_min(0)
    nothing = step.classes.shape[-1] - 1
    wanted = torch.where(positive, targets.classes.gather(1, own), nothing)
    each = functional.cross_entropy(step.classes.transpose(1, 2), wanted, reduction="none")
    classes = _mean(each, positive | targets.known_at(step.boxes), across)
    off = _off(step.better, taken(targets.boxes, own), step.boxes, settings)
    return classes, _mean(off, positive, across)


def mask_loss(
    points: Points, targets: BoxTargets, match: torch.Tensor, across: SumUp
) -> torch.Tensor:
    """Cross-entropy and Dice of masks at points, of those with an object; what nobody annotated
    counts nowhere."""
    logits, places = points.logits.flatten(0, 1), points.places.flatten(0, 1)
    samples = torch.arange(len(match), device=match.device)[:, None].expand_as(match).flatten()
    corners = corners_at(targets.masks.masks, places, samples)
    known = corners.known()  # [mask, point]
    truth = corners.of(match.clamp_min(0).flatten()) * known
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known
    cross_entropy = each.sum(1) / known.sum(1).clamp_min(1)
    probability = logits.sigmoid() * known
    both, total = (probability * truth).sum(1), probability.sum(1) + truth.sum(1)
    dice = 1 - (2 * both + SMOOTH) / (total + SMOOTH)
    return _mean(cross_entropy + dice, (match >= 0).flatten(), across)


def _middles(outputs: BoxOutputs, targets: BoxTargets) -> Points:
    """The masks at the middles of all their voxels."""
    masks = outputs.masks
    size = targets.masks.labels.shape[1:]
    seen = SeenRegions(masks, outputs.boxes, masks, size)
    middles = voxel_centres([masks.shape[2:]], masks.device)
    places = seen.in_patch(middles.expand(masks.shape[0] * masks.shape[1], -1, -1))
    return Points(places, masks.flatten(2))


def _off(
    boxes: torch.Tensor, truth: torch.Tensor, references: torch.Tensor, plan: BoxLossPlan
) -> torch.Tensor:
    """How far off boxes are [batch, box]."""
    if plan.box_loss == "giou":
        return 1 - generalized_iou(boxes, truth)
    found, wanted = encoded(boxes, references), encoded(truth, references)
    return functional.smooth_l1_loss(found, wanted, reduction="none", beta=BETA).sum(-1)


def _mean(values: torch.Tensor, which: torch.Tensor, across: SumUp) -> torch.Tensor:
    """Over those that count; 0 where none does."""
    total = across((values * which).sum())
    return total / across(which.sum().float()).clamp_min(1)
