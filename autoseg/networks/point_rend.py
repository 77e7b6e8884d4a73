"""Masks refined at the places where they are least sure (Kirillov et al. 2020, arXiv:1912.08193).

Places in regions are shares of their sides [region, point, axis], along (x, y) or (x, y, z), as
`deformable` has them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from autoseg.networks.blocks import resized
from autoseg.networks.deformable import centres as voxel_centres
from autoseg.networks.deformable import sampled_at

OVERSAMPLING, UNSURE_SHARE = 3, 0.75


class Points(NamedTuple):
    """Places in patches, as shares of their extent [batch, region, point, axis], and the logits of
    masks there [batch, region, point]."""

    places: torch.Tensor
    logits: torch.Tensor


class SeenRegions(NamedTuple):
    """The finest features [batch, feature, *space] of patches of a size, regions in them [batch,
    region, 2 x axis], and the logits of their masks [batch, region, *bins]."""

    features: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor
    size: Sequence[int]

    def first(self, count: int) -> "SeenRegions":
        return self._replace(boxes=self.boxes[:, :count], masks=self.masks[:, :count])

    def in_patch(self, places: torch.Tensor) -> torch.Tensor:
        """Where places in regions lie in their patch [batch, region, point, axis]."""
        within = places.view(*self.boxes.shape[:2], *places.shape[1:])
        dims = len(self.size)
        along = []
        for axis in reversed(range(dims)):
            low, high = self.boxes[..., axis, None], self.boxes[..., dims + axis, None]
            share = within[..., dims - 1 - axis]
            along.append((low + share * (high - low)) / self.size[axis])
        return torch.stack(along, dim=-1)


class PointHead(nn.Module):
    """Of single places: the finest features and the mask's logit there, seen by three layers."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        widths = [features + 1, *[hidden] * 3]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(self, seen: SeenRegions, places: torch.Tensor) -> Points:
        """Of places in regions [region, point, axis]."""
        in_patch = seen.in_patch(places)
        fine = sampled_at(seen.features, in_patch).movedim(1, -1)  # [batch, region, point, feature]
        coarse = logits_at(seen.masks, places).view(*in_patch.shape[:3], 1)
        x = torch.cat((fine, coarse.to(fine)), dim=-1)
        return Points(in_patch, self.layers(x)[..., 0].float())


def logits_at(masks: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of masks [batch, region, *bins] at places in them [region, point]."""
    return sampled_at(masks.flatten(0, 1)[:, None], places[:, None])[:, 0, 0]


def unsure_places(masks: torch.Tensor, points: int) -> torch.Tensor:
    """Places to learn from [region, point, axis]: of many random ones those where masks [batch,
    region, *bins] are least sure, and further random ones."""
    regions, dims = masks.shape[0] * masks.shape[1], masks.ndim - 2
    many = torch.rand((regions, OVERSAMPLING * points, dims), device=masks.device)
    unsure = int(UNSURE_SHARE * points)
    with torch.no_grad():
        order = (-logits_at(masks, many).abs()).topk(unsure, dim=1).indices
    chosen = many.gather(1, order[..., None].expand(-1, -1, dims))
    others = torch.rand((regions, points - unsure, dims), device=masks.device)
    return torch.cat((chosen, others), dim=1)


def refined(head: PointHead, seen: SeenRegions, points: int) -> torch.Tensor:
    """Masks twice as fine, of which the least sure voxels are looked at again."""
    bins = [2 * n if n > 1 else 1 for n in seen.masks.shape[2:]]
    finer = resized(seen.masks.flatten(0, 1)[:, None], bins).flatten(1)  # [region, voxel]
    order = (-finer.abs()).topk(min(points, finer.shape[1]), dim=1).indices
    places = voxel_centres([bins], finer.device)[order]
    logits = head(seen, places).logits.flatten(0, 1)
    return finer.scatter(1, order, logits.to(finer)).view(*seen.masks.shape[:2], *bins)
