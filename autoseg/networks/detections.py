"""What regions were found to be, said as queries say it: classes and a mask of each."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from autoseg.networks.blocks import resized
from autoseg.networks.chosen_rows import taken
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.networks.region_heads import Regions
from autoseg.networks.region_proposals import best_first
from autoseg.networks.roi_align import pasted
from autoseg.networks.suppression import survivors
from autoseg.planning.network_plan import BoxNetworkPlan

SURE = 20.0  # a logit of what is certain
OUTSIDE = -10.0  # a mask's logit beyond its box
LEAST = 1e-6  # of a probability


class Detected(NamedTuple):
    """Boxes [batch, detection, 2 x axis], the surest first, and logits of their classes and of none
    [batch, detection, class + 1]; of those that are surer ones again it is none for certain."""

    boxes: torch.Tensor
    classes: torch.Tensor

    def first(self, count: int) -> "Detected":
        return Detected(self.boxes[:, :count], self.classes[:, :count])


def detected(steps: Sequence[Regions], boxes: torch.Tensor, plan: BoxNetworkPlan) -> Detected:
    """The surest boxes [batch, region, 2 x axis], by the mean of what all steps say of them, once
    each in its class."""
    probability = torch.stack([step.classes.detach().softmax(-1) for step in steps]).mean(0)
    best = probability[..., 1:-1].max(-1)  # the background is no object's class
    order = best.values.topk(best.values.shape[1], dim=1)
    boxes, probability = taken(boxes, order.indices), taken(probability, order.indices)
    kinds = best.indices.gather(1, order.indices)
    kept = survivors(boxes, plan.detection_overlap, kinds)
    chosen = best_first(order.values, kept, plan.detections)
    again = ~kept.gather(1, chosen)
    logits = taken(probability, chosen).clamp_min(LEAST).log()
    certain = torch.where(again, SURE, logits[..., -1])[..., None]
    return Detected(taken(boxes, chosen), torch.cat((logits[..., :-1], certain), dim=-1))


def as_queries(
    found: Detected,
    masks: torch.Tensor,
    dense: torch.Tensor | None,
    plan: BoxNetworkPlan,
    size: Sequence[int],
) -> QueryOutputs:
    """Detections with masks [batch, detection, *bins] in a patch of a size; then the background, or
    by `dense` logits [batch, class, *space] each dense class, has all of what is its."""
    strides = plan.mask_stride
    mask_size = tuple(n // s for n, s in zip(size, strides, strict=True))
    flat, boxes = masks.detach().flatten(0, 1), found.boxes.flatten(0, 1)
    maps = pasted(flat, boxes, mask_size, strides, OUTSIDE).view(*masks.shape[:2], *mask_size)
    told = (0,) if dense is None else plan.dense_classes
    if dense is None:
        own = _background(found, maps)[:, None]
    else:
        share = resized(dense.detach().float(), mask_size).softmax(1)
        own = _log_odds(torch.stack([share[:, index] for index in told], dim=1))
    every = torch.eye(found.classes.shape[-1], device=masks.device)
    of_class = SURE * torch.stack([every[index] for index in told])
    of_class = of_class.expand(masks.shape[0], -1, -1)
    return QueryOutputs(
        torch.cat((found.classes, of_class), dim=1), torch.cat((maps.to(own), own), dim=1)
    )


def _background(found: Detected, maps: torch.Tensor) -> torch.Tensor:
    """Logits [batch, *space] that a voxel is of no detection."""
    probability = found.classes.softmax(-1)[..., 1:-1].sum(-1)  # [batch, detection]
    shape = (*probability.shape, *[1] * (maps.ndim - 2))
    inside = (maps.sigmoid() * probability.view(shape)).amax(1)
    return -_log_odds(inside)


def _log_odds(probability: torch.Tensor) -> torch.Tensor:
    """As `torch.logit`, which not every engine knows."""
    probability = probability.clamp(LEAST, 1 - LEAST)
    return probability.log() - (1 - probability).log()
