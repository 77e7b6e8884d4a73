"""MedNeXt after Roy et al. 2023 (arXiv:2303.09975), in 2D and 3D.

It takes [batch, channel, *patch], a multiple of all strides, and returns logits
[batch, class, *patch]; with `all_resolutions`, a list of them, highest resolution first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from autoseg.networks.blocks import Conv, TransposedConv
from autoseg.networks.instance_norm import FeatureNorm
from autoseg.networks.unet import Logits
from autoseg.planning.network_plan import MedNeXtPlan, MedNeXtStage


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Widths in and out, the depthwise kernel, its stride, and how much wider it is inside."""

    in_features: int
    features: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    expansion: int

    @property
    def dims(self) -> int:
        return len(self.kernel_size)

    def depthwise(self, convolutions: Mapping[int, Callable[..., nn.Module]]) -> nn.Module:
        """A convolution of each feature alone, of a kind that is listed by dimensions."""
        return convolutions[self.dims](
            self.in_features,
            self.in_features,
            self.kernel_size,
            self.stride,
            padding=tuple(k // 2 for k in self.kernel_size),
            groups=self.in_features,
        )


class MedNeXt(nn.Module):
    """Inverted bottlenecks down and up; what the encoder saw is added, not joined."""

    def __init__(self, plan: MedNeXtPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        stages, dims = plan.stages, len(plan.stages[0].stride)
        pairs = list(pairwise(stages))
        self.stem = Conv[dims](in_channels, stages[0].features, 1)
        self.encoder = nn.ModuleList(_blocks(s, s.blocks, s.expansion) for s in stages)
        self.down = nn.ModuleList(DownBlock(_between(a, b, b.expansion)) for a, b in pairs)
        # Modules are indexed by the stage whose resolution they restore.
        self.up = nn.ModuleList(UpBlock(_between(b, a, a.decoder_expansion, b)) for a, b in pairs)
        self.decoder = nn.ModuleList(
            _blocks(s, s.decoder_blocks, s.decoder_expansion) for s in stages[:-1]
        )
        self.heads = nn.ModuleList(Conv[dims](s.features, class_count, 1) for s in stages[:-1])
        # Heads that no loss looks at: that of the lowest resolution weighs 0 in deep supervision.
        for head in self.heads[max(1, len(self.heads) - 1) if plan.deep_supervision else 1 :]:
            head.requires_grad_(False)

    def forward(self, image: torch.Tensor, all_resolutions: bool = False) -> Logits:
        x = self.stem(image)
        skips = []
        for level, down in enumerate(self.down):
            skips.append(self.encoder[level](x))
            x = down(skips[-1])
        x = self.encoder[-1](x)
        logits = []
        for level in reversed(range(len(skips))):
            x = self.decoder[level](self.up[level](x) + skips[level])
            if level == 0 or (all_resolutions and level < len(skips) - 1):
                logits.append(self.heads[level](x))  # [batch, class, *resolution]
        return logits[::-1] if all_resolutions else logits[-1]


class MedNeXtBlock(nn.Module):
    """Each feature alone over space, then all features at a voxel, added to what came in."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.depthwise = shape.depthwise(Conv)
        self.mix = Bottleneck(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mix(self.depthwise(x))
        return mixed + x  # laid out as the first


class Bottleneck(nn.Module):
    """A norm of each feature, wider by the expansion, GELU, and to the width that is wanted."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        inside = shape.expansion * shape.in_features
        self.norm = FeatureNorm(shape.in_features)
        self.widen = Conv[shape.dims](shape.in_features, inside, 1)
        self.narrow = Conv[shape.dims](inside, shape.features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrowed: torch.Tensor = self.narrow(functional.gelu(self.widen(self.norm(x))))
        return narrowed


class DownBlock(nn.Module):
    """To the next lower resolution, with a strided convolution of size 1 beside it."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.depthwise = shape.depthwise(Conv)
        self.mix = Bottleneck(shape)
        self.skip = Conv[shape.dims](shape.in_features, shape.features, 1, shape.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down: torch.Tensor = self.mix(self.depthwise(x)) + self.skip(x)
        return down


class UpBlock(nn.Module):
    """To the next higher resolution, by transposed convolutions.

    These give one voxel less than the stride times as many, which is put before the first.
    """

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.missing = [n for s in reversed(shape.stride) for n in (s - 1, 0)]
        self.depthwise = shape.depthwise(TransposedConv)
        self.mix = Bottleneck(shape)
        self.skip = TransposedConv[shape.dims](shape.in_features, shape.features, 1, shape.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = functional.pad(self.mix(self.depthwise(x)), self.missing)
        return up + functional.pad(self.skip(x), self.missing)


def _between(
    one: MedNeXtStage, other: MedNeXtStage, expansion: int, lower: MedNeXtStage | None = None
) -> BlockShape:
    """From one stage to the other; the stride and kernel are the lower one's."""
    lower = lower or other
    return BlockShape(one.features, other.features, lower.kernel_size, lower.stride, expansion)


def _blocks(stage: MedNeXtStage, count: int, expansion: int) -> nn.Sequential:
    ones = (1,) * len(stage.stride)
    shape = BlockShape(stage.features, stage.features, stage.kernel_size, ones, expansion)
    return nn.Sequential(*(MedNeXtBlock(shape) for _ in range(count)))


def with_larger_kernels(given: torch.Tensor, wanted: torch.Size) -> torch.Tensor | None:
    """UpKern: depthwise kernels [feature, 1, *kernel] resized linearly (section 2.3); None where
    they are no depthwise kernels of the same features."""
    same = given.ndim == len(wanted) and given.shape[:2] == wanted[:2]
    if not same or given.ndim < 4 or given.shape[1] != 1:
        return None
    mode = "bilinear" if given.ndim == 4 else "trilinear"
    return functional.interpolate(given, size=tuple(wanted[2:]), mode=mode)
