"""A feature pyramid over an encoder's stages (Lin et al. 2017, arXiv:1612.03144), and the branch of
Panoptic FPN that tells every voxel apart (Kirillov et al. 2019, arXiv:1901.02446)."""

from math import gcd

import torch
from torch import nn

from autoseg.networks.blocks import Conv, resized
from autoseg.planning.network_plan import PerAxis, StagePlan

GROUPS = 32


def conv_group_norm(
    in_features: int, features: int, kernel_size: PerAxis, act: bool = True
) -> nn.Sequential:
    """Convolution with same padding, group norm, and ReLU unless without."""
    padding = tuple(k // 2 for k in kernel_size)
    conv = Conv[len(padding)](in_features, features, kernel_size, padding=padding, bias=False)
    nn.init.kaiming_normal_(conv.get_parameter("weight"))
    block = nn.Sequential(conv, nn.GroupNorm(gcd(GROUPS, features), features))
    return block.append(nn.ReLU()) if act else block


class FeaturePyramid(nn.Module):
    """From what an encoder sees, highest resolution first, maps of equal width from stage `finest`
    on: what is below, twice as coarse, is added to each."""

    def __init__(self, stages: tuple[StagePlan, ...], finest: int, features: int) -> None:
        super().__init__()
        ones = (1,) * len(stages[0].kernel_size)
        used = stages[finest:]
        self.finest = finest
        self.lateral = nn.ModuleList(
            conv_group_norm(stage.features, features, ones, act=False) for stage in used
        )
        self.smooth = nn.ModuleList(
            conv_group_norm(features, features, stage.kernel_size) for stage in used
        )

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        own = [lateral(x) for lateral, x in zip(self.lateral, stages[self.finest :], strict=True)]
        return [smooth(x) for smooth, x in zip(self.smooth, from_below(own), strict=True)]


def from_below(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Maps [batch, feature, *resolution], highest first, each with what lies below it added."""
    sums = list(maps)
    for level in reversed(range(len(sums) - 1)):
        sums[level] = sums[level] + resized(sums[level + 1], sums[level].shape[2:])
    return sums


class DenseBranch(nn.Module):
    """Logits of classes [batch, class, *space] at the finest map: the sum of what each map says."""

    def __init__(self, kernels: tuple[PerAxis, ...], features: int, class_count: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(conv_group_norm(features, features, k) for k in kernels)
        self.classes = Conv[len(kernels[0])](features, class_count, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        size = maps[0].shape[2:]
        each = [
            resized(level(x), size) if x.shape[2:] != size else level(x)
            for level, x in zip(self.levels, maps, strict=True)
        ]
        logits: torch.Tensor = self.classes(torch.stack(each).sum(0))
        return logits
