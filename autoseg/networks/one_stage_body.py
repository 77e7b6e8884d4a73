"""What heads of one-stage networks look at, in 2D and 3D, and what they are made of.

It is a `FeaturePyramid` without norms of its laterals, as published, that ends at the stages which
heads look at; else some weights would not be learned.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from autoseg.networks.blocks import Conv, ConvShape, ResidualBlock, conv_norm_act, initialize
from autoseg.networks.feature_pyramid import conv_group_norm, from_below
from autoseg.networks.unet import encode, encoder_stages
from autoseg.planning.network_plan import PerAxis, SoloPlan, YolactPlan


class PyramidBody(nn.Module):
    """A residual encoder and a pyramid over it: maps [batch, feature, *resolution] of one width, by
    the stages that heads look at."""

    def __init__(self, plan: SoloPlan | YolactPlan, in_channels: int) -> None:
        super().__init__()
        top = plan.stages[0]
        ones = (1,) * len(top.kernel_size)
        first = ConvShape(in_channels, top.features, top.kernel_size, ones, plan.bias)
        self.stem = conv_norm_act(first)
        self.encoder = encoder_stages(ResidualBlock, plan.stages, top.features, plan.bias)
        used = plan.stages[plan.mask_level :]
        self.first = plan.mask_level
        self.lateral = nn.ModuleList(
            Conv[len(ones)](stage.features, plan.features, 1) for stage in used
        )
        self.looked_at = plan.looked_at
        self.smooth = nn.ModuleList(
            conv_group_norm(plan.features, plan.features, plan.stages[level].kernel_size)
            for level in self.looked_at
        )
        self.apply(initialize)

    def forward(self, image: torch.Tensor) -> dict[int, torch.Tensor]:
        seen = encode(self.encoder, self.stem(image))[self.first :]
        sums = from_below([lateral(x) for lateral, x in zip(self.lateral, seen, strict=True)])
        return {
            level: smooth(sums[level - self.first])
            for level, smooth in zip(self.looked_at, self.smooth, strict=True)
        }


def tower(in_features: int, features: int, count: int, kernel_size: PerAxis) -> nn.Sequential:
    """So many of these convolutions."""
    widths = [in_features, *[features] * count]
    return nn.Sequential(*(conv_group_norm(a, b, kernel_size) for a, b in pairwise(widths)))


def with_places(x: torch.Tensor, waves: Sequence[int]) -> torch.Tensor:
    """Maps [batch, feature, *space] with further features for each axis: how far along it a voxel
    lies, from -1 to 1 (CoordConv: Liu et al. 2018, arXiv:1807.03247), and so many sines and as many
    cosines of it, the first as long as the axis, each further one half as long as the one before
    (Tancik et al. 2020, arXiv:2006.10739)."""
    size = x.shape[2:]
    along = [x]
    for axis, (n, count) in enumerate(zip(size, waves, strict=True)):
        place = (2 * torch.arange(n, device=x.device, dtype=torch.float32) + 1) / n - 1
        turns = 2 ** torch.arange(count, device=x.device, dtype=torch.float32)
        angles = torch.pi * turns[:, None] * place
        features = torch.cat((place[None], angles.sin(), angles.cos())).to(x.dtype)
        shape = [1] * len(size)
        shape[axis] = n
        along.append(features.view(1, -1, *shape).expand(x.shape[0], -1, *size))
    return torch.cat(along, dim=1)


def features_of_places(waves: Sequence[int]) -> int:
    """How many features `with_places` adds."""
    return sum(1 + 2 * count for count in waves)
