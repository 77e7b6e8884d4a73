"""YOLACT (Bolya et al. 2019, arXiv:1904.02689), in 2D and 3D.

At each place of a pyramid boxes of a few sizes are told apart into classes, moved and stretched,
and given coefficients, by which prototypes of masks add up to the object's own. A network takes
[batch, channel, *patch], a multiple of all strides, and gives logits of classes [batch, class,
*patch]; with `all_resolutions` a list of one `YolactOutputs`, which it learns from.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from autoseg.networks.blocks import Conv, resized
from autoseg.networks.box_geometry import decoded, encoded, pairwise_iou
from autoseg.networks.candidate_suppression import fast_keep
from autoseg.networks.candidates import EMPTY, Candidates, filled, packed_candidates
from autoseg.networks.chosen_rows import surest, taken
from autoseg.networks.one_stage_body import PyramidBody, tower
from autoseg.networks.region_proposals import anchors_at
from autoseg.planning.network_plan import YolactPlan

MOST_OVERLAP = 0.5  # with a surer candidate
LOOKED_AT = 2  # times as many as are kept, as published
MOVED, STRETCHED = 0.1, 0.2  # what a box's numbers are in units of, as in SSD


class YolactOutputs(NamedTuple):
    """Of each box logits of classes [batch, box, class], the background first, how it is moved and
    stretched [batch, box, 2 x axis], and coefficients [batch, box, prototype]; the boxes before
    that [box, 2 x axis], in voxels of the patch; prototypes [batch, prototype, *space];
    and logits of classes [batch, class, *space]."""

    classes: torch.Tensor
    changes: torch.Tensor
    coefficients: torch.Tensor
    anchors: torch.Tensor
    prototypes: torch.Tensor
    semantic: torch.Tensor


class Yolact(nn.Module):
    """A pyramid, a head at some of its stages, prototypes, and scores of classes."""

    def __init__(self, plan: YolactPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        self.plan = plan
        kernel, width = plan.stages[-1].kernel_size, plan.features
        dims, counts = len(kernel), [len(anchors) for anchors in plan.anchors]
        self.body = PyramidBody(plan, in_channels)
        self.tower = tower(width, width, plan.tower, kernel)

        def heads(features: int) -> nn.ModuleList:
            """One for each stage and each size of box, since stages have sizes of their own."""
            return nn.ModuleList(Conv[dims](width, features, 1) for _ in range(sum(counts)))

        self.classes, self.changes = heads(class_count), heads(2 * dims)
        self.coefficients = heads(plan.prototypes)
        finest = plan.stages[plan.mask_level].kernel_size
        self.prototypes = tower(width, width, 2, finest).append(
            Conv[dims](width, plan.prototypes, 1)
        )
        self.semantic = Conv[dims](width, class_count, 1)

    def forward(
        self, image: torch.Tensor, all_resolutions: bool = False
    ) -> torch.Tensor | list[YolactOutputs]:
        if all_resolutions:
            return [self.found(image)]
        return resized(self.semantic(self.body(image)[self.plan.mask_level]), image.shape[2:])

    def found(self, image: torch.Tensor) -> YolactOutputs:
        maps = self.body(image)
        classes, changes, coefficients = [], [], []
        anchors: list[torch.Tensor] = []
        first = 0
        for stage, sizes in zip(self.plan.head_stages, self.plan.anchors, strict=True):
            seen = self.tower(maps[stage])
            size = seen.shape[2:]
            stride = tuple(n // m for n, m in zip(image.shape[2:], size, strict=True))
            anchors += anchors_at(sizes, stride, size, seen.device).unbind(1)
            own = slice(first, first + len(sizes))
            classes += [_rows(head(seen)) for head in self.classes[own]]
            changes += [_rows(head(seen)) for head in self.changes[own]]
            coefficients += [_rows(head(seen)).tanh() for head in self.coefficients[own]]
            first += len(sizes)
        finest = maps[self.plan.mask_level]
        return YolactOutputs(
            classes=torch.cat(classes, dim=1).float(),
            changes=torch.cat(changes, dim=1).float(),
            coefficients=torch.cat(coefficients, dim=1),
            anchors=torch.cat(anchors),
            prototypes=self.prototypes(finest).relu(),
            semantic=self.semantic(finest).float(),
        )

    def packed(self, image: torch.Tensor) -> torch.Tensor:
        """The surest candidates, and scores of classes, as `packed_candidates` has them."""
        found = self.found(image)
        candidates = surest_boxes(found, self.plan.candidates, image.shape[2:])
        return packed_candidates(filled(candidates, self.plan.candidates), found.semantic)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Maps [batch, feature, *space] as rows [batch, place, feature]."""
    return x.flatten(2).transpose(1, 2)


def changed(anchors: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
    """Boxes [..., 2 x axis] moved and stretched [..., 2 x axis]."""
    moved, stretched = changes.chunk(2, dim=-1)
    return decoded(torch.cat((moved * MOVED, stretched * STRETCHED), dim=-1), anchors)


def changes_to(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """What moves and stretches boxes so that they become others: all [..., 2 x axis]."""
    moved, stretched = encoded(boxes, anchors).chunk(2, dim=-1)
    return torch.cat((moved / MOVED, stretched / STRETCHED), dim=-1)


def surest_boxes(found: YolactOutputs, count: int, patch: Sequence[int]) -> Candidates:
    """The candidates that are left by fast NMS, at most so many, with masks within their boxes."""
    best = found.classes.softmax(-1)[..., 1:].max(dim=2)  # of classes but the background
    score, index = surest(best.values, LOOKED_AT * count)
    classes = taken(best.indices, index) + 1
    anchors = found.anchors[index]  # [batch, n, 2 x axis]
    boxes = changed(anchors, taken(found.changes, index))
    kept = fast_keep(pairwise_iou(boxes, boxes), classes, MOST_OVERLAP)
    score, order = surest(score * kept, count)
    index, boxes = taken(index, order), taken(boxes, order)
    masks = summed_masks(taken(found.coefficients, index), found.prototypes)
    inside = within(boxes, found.prototypes.shape[2:], patch)
    masks = torch.where(inside, masks, EMPTY).view(*order.shape, *found.prototypes.shape[2:])
    return Candidates(taken(classes, order), score, masks)


def summed_masks(coefficients: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Logits of masks [batch, n, voxel] (equation 1)."""
    return torch.bmm(coefficients, prototypes.flatten(2)).float()


def within(boxes: torch.Tensor, size: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """Whether the voxels of a map of a size over a patch lie in boxes
    [batch, n, 2 x axis]: [batch, n, voxel]."""
    inside = torch.ones((*boxes.shape[:2], 1), dtype=torch.bool, device=boxes.device)
    for axis, (n, vox) in enumerate(zip(size, patch, strict=True)):
        place = (torch.arange(n, device=boxes.device) + 0.5) * (vox / n)
        low, high = boxes[:, :, axis, None], boxes[:, :, len(size) + axis, None]
        along = (place + vox / n / 2 > low) & (place - vox / n / 2 < high)  # [batch, n, place]
        inside = (inside[..., None] & along[:, :, None]).flatten(2)
    return inside
