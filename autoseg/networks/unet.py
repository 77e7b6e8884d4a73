"""U-Nets after Ronneberger et al. 2015 (arXiv:1505.04597), as configured by nnU-Net.

Both take [batch, channel, *patch], where the patch is a multiple of all strides, and return logits
[batch, class, *patch]; with `all_resolutions`, a list of logits, highest resolution first, as deep
supervision needs them.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from autoseg.networks.blocks import (
    Block,
    Conv,
    ConvShape,
    ResidualBlock,
    conv_norm_act,
    initialize,
    stack_blocks,
    upsampling,
)
from autoseg.planning.network_plan import StagePlan, UNetPlan

Logits = torch.Tensor | list[torch.Tensor]


class PlainUNet(nn.Module):
    """Strided convolutions down, transposed convolutions up, skips at every resolution."""

    def __init__(self, plan: UNetPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        self.encoder = encoder_stages(
            conv_norm_act, plan.stages, in_channels, plan.bias, plan.squeeze_excitation
        )
        self.decoder = Decoder(plan, class_count)
        self.apply(initialize)

    def forward(self, image: torch.Tensor, all_resolutions: bool = False) -> Logits:
        logits: Logits = self.decoder(encode(self.encoder, image), all_resolutions)
        return logits


class ResidualUNet(nn.Module):
    """Residual blocks down, plain ones up: the residual encoder U-Net of nnU-Net.

    Isensee et al. 2024 (arXiv:2404.09556).
    """

    def __init__(self, plan: UNetPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        top = plan.stages[0]
        ones = (1,) * len(top.kernel_size)
        self.stem = conv_norm_act(
            ConvShape(in_channels, top.features, top.kernel_size, ones, plan.bias)
        )
        self.encoder = encoder_stages(
            ResidualBlock, plan.stages, top.features, plan.bias, plan.squeeze_excitation
        )
        self.decoder = Decoder(plan, class_count)
        self.apply(initialize)

    def forward(self, image: torch.Tensor, all_resolutions: bool = False) -> Logits:
        features = encode(self.encoder, self.stem(image))
        logits: Logits = self.decoder(features, all_resolutions)
        return logits


class Decoder(nn.Module):
    """From the lowest resolution to the highest: up, join what the encoder saw there, convolve."""

    def __init__(self, plan: UNetPlan, class_count: int) -> None:
        super().__init__()
        dims = len(plan.stages[0].kernel_size)
        ones = (1,) * dims
        # Modules are indexed by the stage whose resolution they restore.
        self.upsample = nn.ModuleList(
            upsampling(
                plan.upsampling,
                ConvShape(below.features, stage.features, ones, below.stride, plan.bias),
            )
            for stage, below in zip(plan.stages, plan.stages[1:], strict=False)
        )
        self.stages = nn.ModuleList(
            stack_blocks(
                conv_norm_act,
                stage.decoder_blocks,
                ConvShape(2 * stage.features, stage.features, stage.kernel_size, ones, plan.bias),
            )
            for stage in plan.stages[:-1]
        )
        self.heads = nn.ModuleList(
            Conv[dims](stage.features, class_count, 1) for stage in plan.stages[:-1]
        )
        # Heads that no loss looks at: that of the lowest resolution weighs 0 in deep supervision.
        for head in self.heads[max(1, len(self.heads) - 1) if plan.deep_supervision else 1 :]:
            head.requires_grad_(False)

    def forward(self, features: list[torch.Tensor], all_resolutions: bool) -> Logits:
        *skips, x = features
        logits = []
        for level in reversed(range(len(skips))):
            x = self.upsample[level](x)
            x = self.stages[level](torch.cat((x, skips[level]), dim=1))
            if level == 0 or (all_resolutions and level < len(skips) - 1):
                logits.append(self.heads[level](x))  # [batch, class, *resolution]
        return logits[::-1] if all_resolutions else logits[-1]


def encoder_stages(
    block: Block,
    stages: Sequence[StagePlan],
    in_features: int,
    bias: bool,
    squeezed: bool = False,
) -> nn.ModuleList:
    """The stages of an encoder, highest resolution first."""
    widths = [in_features, *(stage.features for stage in stages)]
    return nn.ModuleList(
        stack_blocks(
            block,
            stage.blocks,
            ConvShape(
                width,
                stage.features,
                stage.kernel_size,
                stage.stride,
                bias,
                squeezed,
            ),
        )
        for width, stage in zip(widths, stages, strict=False)
    )


def encode(stages: Iterable[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    """What an encoder sees at each resolution, highest first."""
    features = []
    for stage in stages:
        x = stage(x)
        features.append(x)
    return features
