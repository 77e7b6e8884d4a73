"""Where objects may be: boxes about every place of a pyramid, and a network that chooses among them
(Ren et al. 2015, arXiv:1506.01497)."""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from torch import nn

from autoseg.networks.blocks import Conv
from autoseg.networks.box_geometry import decoded, within_patch
from autoseg.networks.chosen_rows import surest, taken
from autoseg.networks.feature_pyramid import conv_group_norm
from autoseg.networks.suppression import survivors
from autoseg.planning.network_plan import BoxNetworkPlan, PerAxis

PRIOR = 0.01  # of objects among anchors, that training begins with (Lin et al. 2017)
BELOW_ALL = 1e4  # taken from the score of what is to come last


def anchors_at(
    sizes_vox: Sequence[Sequence[float]],
    stride: PerAxis,
    shape: Sequence[int],
    device: torch.device,
) -> torch.Tensor:
    """Boxes of so many sizes about the middle of every voxel of a map [place, size, 2 x axis]."""
    along = [
        (torch.arange(n, device=device) + 0.5) * step for n, step in zip(shape, stride, strict=True)
    ]
    places = torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1).flatten(0, -2)
    boxes = []
    for size in sizes_vox:
        edges = [
            places[:, axis] + side * length / 2
            for side in (-1, 1)
            for axis, length in enumerate(size)
        ]
        boxes.append(torch.stack(edges, dim=-1))
    return torch.stack(boxes, dim=1)


class Proposals(NamedTuple):
    """The anchors of each level [place, size, 2 x axis]; of all of them, level after level, logits
    that they are an object's [batch, anchor], and the boxes that were found instead [batch, anchor,
    2 x axis]."""

    anchors: list[torch.Tensor]
    objectness: torch.Tensor
    better: torch.Tensor


class ProposalHead(nn.Module):
    """Looks at all levels with the same layers."""

    def __init__(self, features: int, kernel_size: PerAxis, sizes: int) -> None:
        super().__init__()
        dims = len(kernel_size)
        self.conv = conv_group_norm(features, features, kernel_size)
        self.objectness = Conv[dims](features, sizes, 1)
        self.deltas = Conv[dims](features, sizes * 2 * dims, 1)
        for layer in (self.objectness, self.deltas):
            nn.init.normal_(layer.get_parameter("weight"), std=0.01)
        nn.init.constant_(self.objectness.get_parameter("bias"), -log((1 - PRIOR) / PRIOR))
        nn.init.zeros_(self.deltas.get_parameter("bias"))

    def forward(self, maps: Sequence[torch.Tensor], anchors: list[torch.Tensor]) -> Proposals:
        seen = [self.conv(x) for x in maps]
        logits = [self.objectness(x).movedim(1, -1).flatten(1) for x in seen]
        edges = anchors[0].shape[-1]
        deltas = [self.deltas(x).movedim(1, -1).reshape(x.shape[0], -1, edges) for x in seen]
        better = decoded(
            torch.cat(deltas, dim=1).float(), torch.cat([x.flatten(0, 1) for x in anchors])
        )
        return Proposals(anchors, torch.cat(logits, dim=1).float(), better)


def best_first(scores: torch.Tensor, kept: torch.Tensor, count: int) -> torch.Tensor:
    """The indices of the best [batch, count] of those that are kept, then of the others; of all
    where there are fewer."""
    order = torch.where(kept, scores, scores - BELOW_ALL)
    return surest(order, count)[1]


def likeliest(proposals: Proposals, plan: BoxNetworkPlan, size: Sequence[int]) -> torch.Tensor:
    """Boxes to look at [batch, region, 2 x axis] in a patch of a size: the likeliest, those first
    that no surer one overlaps too much. There are always as many, and they are not learned here."""
    logits = proposals.objectness.detach()
    scores, first = surest(logits, plan.considered)
    boxes = within_patch(taken(proposals.better.detach(), first), size)
    kept = survivors(boxes, plan.proposal_overlap)
    return taken(boxes, best_first(scores, kept, plan.proposals))
