"""The plain U-Net: Ronneberger et al. 2015 (arXiv:1505.04597), as configured by nnU-Net."""

import torch
from torch import nn

from autoseg.networks.blocks import Conv, TransposedConv, initialize, stack_blocks
from autoseg.planning.plan import NetworkPlan


class PlainUNet(nn.Module):
    """Strided convolutions down, transposed convolutions up, skips at every resolution.

    Takes [batch, channel, *patch], where the patch is a multiple of all strides, and returns logits
    [batch, class, *patch]; with `all_resolutions`, a list of logits, highest resolution first, as
    deep supervision needs them.
    """

    def __init__(self, plan: NetworkPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        dims = len(plan.stages[0].kernel_size)
        widths = [stage.features for stage in plan.stages]
        self.encoder = nn.ModuleList(
            stack_blocks(
                stage.blocks, width_in, stage.features, stage.kernel_size, stage.stride, plan.bias
            )
            for stage, width_in in zip(plan.stages, [in_channels, *widths], strict=False)
        )
        # Decoder modules are indexed by the stage whose resolution they restore.
        self.upsample = nn.ModuleList(
            TransposedConv[dims](
                below.features, stage.features, below.stride, below.stride, bias=plan.bias
            )
            for stage, below in zip(plan.stages, plan.stages[1:], strict=False)
        )
        self.decoder = nn.ModuleList(
            stack_blocks(
                stage.decoder_blocks,
                2 * stage.features,
                stage.features,
                stage.kernel_size,
                (1,) * dims,
                plan.bias,
            )
            for stage in plan.stages[:-1]
        )
        self.heads = nn.ModuleList(
            Conv[dims](stage.features, class_count, 1) for stage in plan.stages[:-1]
        )
        self.apply(initialize)

    def forward(
        self, image: torch.Tensor, all_resolutions: bool = False
    ) -> torch.Tensor | list[torch.Tensor]:
        skips = []
        x = image
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        logits = []
        for level in reversed(range(len(self.decoder))):
            x = self.upsample[level](x)
            x = self.decoder[level](torch.cat((x, skips[level]), dim=1))
            if level == 0 or (all_resolutions and level < len(self.decoder) - 1):
                logits.append(self.heads[level](x))  # [batch, class, *resolution]
        return logits[::-1] if all_resolutions else logits[-1]
