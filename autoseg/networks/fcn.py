"""Fully convolutional networks after Long et al. 2015 (arXiv:1411.4038).

They take [batch, channel, *patch], a multiple of all strides, and return logits
[batch, class, *patch]. The encoder is a U-Net's.
"""

import torch
from torch import nn

from autoseg.networks.blocks import (
    Conv,
    ConvShape,
    ResidualBlock,
    conv_norm_act,
    initialize,
    resized,
)
from autoseg.networks.unet import encode, encoder_stages
from autoseg.planning.network_plan import FCNPlan


class FCN(nn.Module):
    """Scores of the lowest stages, each added to those of the stage above, enlarged linearly.

    Heads are in the order in which they are used: the lowest stage's first. Those of skips begin
    at 0, so that the network is at first that without them (section 4.3).
    """

    def __init__(self, plan: FCNPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        top = plan.stages[0]
        ones = (1,) * len(top.kernel_size)
        self.stem: nn.Module = nn.Identity()
        width = in_channels
        if plan.block == "residual":
            width = top.features
            shape = ConvShape(in_channels, width, top.kernel_size, ones, plan.bias)
            self.stem = conv_norm_act(shape)
        block = ResidualBlock if plan.block == "residual" else conv_norm_act
        self.encoder = encoder_stages(block, plan.stages, width, plan.bias)
        self.heads = nn.ModuleList(
            Conv[len(ones)](stage.features, class_count, 1)
            for stage in plan.stages[: -(plan.skips + 2) : -1]
        )
        self.apply(initialize)
        for parameter in self.heads[1:].parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = encode(self.encoder, self.stem(image))[::-1]  # lowest resolution first
        scores: torch.Tensor = self.heads[0](features[0])
        for head, seen in zip(self.heads[1:], features[1:], strict=False):
            scores = resized(scores, seen.shape[2:]) + head(seen)
        return resized(scores, image.shape[2:])
