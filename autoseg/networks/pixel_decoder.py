"""Pixel decoders of Mask2Former (Cheng et al. 2022, arXiv:2112.01527) and MaskFormer (Cheng et al.
2021, arXiv:2107.06278): from an encoder's stages to what queries look at, and what masks are of."""

import math
from collections.abc import Sequence
from math import gcd

import torch
from torch import nn

from autoseg.networks.blocks import Conv, resized
from autoseg.networks.deformable import DeformableAttention, DeformableLayer
from autoseg.planning.network_plan import QueryNetworkPlan, StagePlan

GROUPS = 32
TEMPERATURE = 10000.0
FULL_TURN = 2 * math.pi


def sine_positions(size: Sequence[int], features: int, device: torch.device) -> torch.Tensor:
    """Where the voxels of a map are [feature, *size], as sines of many wavelengths.

    Half of the features are of y and half of x, normalised by the map's extent, as in DETR; in
    three dimensions all have z added, as Cheng et al. 2021 add time (arXiv:2112.10764). A single
    slice is where a picture is.
    """
    y, x = (_waves(n, features // 2, device) for n in size[-2:])
    height, width = size[-2:]
    plane = torch.cat((y[:, :, None].expand(-1, -1, width), x[:, None].expand(-1, height, -1)))
    if len(size) == 2 or size[0] == 1:
        return plane.view(features, *size)
    return plane[:, None] + _waves(size[0], features, device)[:, :, None, None]


def _waves(count: int, features: int, device: torch.device) -> torch.Tensor:
    """Of places 1 to `count` [feature, place]: sine and cosine in turn."""
    place = torch.arange(1, count + 1, device=device) * (FULL_TURN / count)
    pair = torch.arange(features, device=device) // 2
    angle = place / TEMPERATURE ** (2 * pair / features)[:, None]
    odd = (torch.arange(features, device=device) % 2)[:, None]
    return angle.sin() * (1 - odd) + angle.cos() * odd


class PixelDecoder(nn.Module):
    """Gives the attended maps, lowest resolution first, and the features of masks.

    The deformable one lets the attended stages look at each other first; an FPN leads from there
    up to the masks' resolution, adding what the encoder saw at each.
    """

    def __init__(self, plan: QueryNetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        dims, lowest = len(plan.stages[0].stride), len(plan.stages) - 1
        deformable = plan.pixel_decoder == "deformable"
        first = len(plan.stages) - plan.attended if deformable else lowest
        # Modules come in the order in which resolution grows.
        self.project = nn.ModuleList(
            _projection(plan.stages[level].features, plan.features, dims, bias=True)
            for level in range(lowest, first - 1, -1)
        )
        levels = nn.Parameter(torch.empty(plan.attended, plan.features).normal_())
        self.level_embed = levels if deformable else None
        self.layers = nn.ModuleList(_layer(plan, dims) for _ in range(plan.pixel_layers))
        upward = range(first - 1, plan.mask_level - 1, -1)
        self.lateral = nn.ModuleList(
            _projection(plan.stages[level].features, plan.features, dims, bias=False)
            for level in upward
        )
        self.smooth = nn.ModuleList(
            _smoothing(plan.stages[level], plan.features) for level in upward
        )
        self.mask_features = Conv[dims](plan.features, plan.features, 1)
        for module in (*self.project, *self.lateral, *self.smooth):
            nn.init.kaiming_uniform_(module[0].weight, a=1)

    def forward(self, stages: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        lowest_first = stages[::-1]
        count = len(self.project)
        maps = [
            project(x) for project, x in zip(self.project, lowest_first[:count], strict=True)
        ]  # [batch, feature, *resolution]
        if self.level_embed is not None:
            maps = self._attend(maps, self.level_embed)
        upward = lowest_first[count : count + len(self.lateral)]
        for lateral, smooth, x in zip(self.lateral, self.smooth, upward, strict=True):
            seen = lateral(x)
            maps.append(smooth(seen + resized(maps[-1], seen.shape[2:])))
        return maps[: self.plan.attended], self.mask_features(maps[-1])

    def _attend(self, maps: list[torch.Tensor], levels: torch.Tensor) -> list[torch.Tensor]:
        sizes = [x.shape[2:] for x in maps]
        where = torch.cat(
            [
                sine_positions(size, self.plan.features, maps[0].device).flatten(1).T.to(level)
                + level
                for size, level in zip(sizes, levels.unbind(), strict=True)
            ]
        )  # [token, feature]
        tokens = torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, where, sizes)
        parts = torch.split(tokens.transpose(1, 2), [size.numel() for size in sizes], dim=2)
        return [
            part.reshape(*part.shape[:2], *size) for part, size in zip(parts, sizes, strict=True)
        ]


def _layer(plan: QueryNetworkPlan, dims: int) -> DeformableLayer:
    attention = DeformableAttention(
        plan.features, plan.heads, plan.attended, plan.sampled_points, dims
    )
    return DeformableLayer(attention, plan.features, plan.pixel_hidden)


def _projection(in_features: int, features: int, dims: int, bias: bool) -> nn.Sequential:
    conv = Conv[dims](in_features, features, 1, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(gcd(GROUPS, features), features))


def _smoothing(stage: StagePlan, features: int) -> nn.Sequential:
    padding = tuple(k // 2 for k in stage.kernel_size)
    conv = Conv[len(padding)](features, features, stage.kernel_size, padding=padding, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(gcd(GROUPS, features), features), nn.ReLU())
