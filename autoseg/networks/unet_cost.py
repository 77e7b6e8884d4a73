"""What the U-Nets of `unet` cost, counted from their plan alone.

It is what tracing them finds, without torch, which takes longer to load than a plan takes to make.
"""

from itertools import pairwise
from math import prod

from autoseg.planning.cost import NetworkCost
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.network_plan import SQUEEZE_REDUCTION, StagePlan, UNetPlan, unet_plan

NUMBER_BYTES = 4
NORM_NUMBERS = 3  # kept of each feature: mean, deviation, and a copy of its weight


def unet_cost(model: ModelPlan) -> NetworkCost:
    """The cost of one patch through a plain or residual U-Net."""
    tally = _Tally(unet_plan(model.network))
    channels, voxels = len(model.channel_names), prod(model.patch_size_vox)
    tally.kept += channels * voxels  # the image
    resolutions = tally.encoder(channels, voxels)
    tally.decoder(resolutions, model.task.outputs)
    heads = resolutions[: max(1, len(resolutions) - 2) if model.network.deep_supervision else 1]
    return NetworkCost(
        elements=tally.elements,
        multiply_adds=tally.multiply_adds,
        kept_bytes=NUMBER_BYTES * tally.kept,
        weights=tally.weights,
        output_voxels=sum(heads),
    )


class _Tally:
    """Adds up the layers of a network in the order in which they run.

    `kept` counts numbers kept for the way back, `width` is the features that come in, and `voxels`
    those of the resolution that is written.
    """

    def __init__(self, plan: UNetPlan) -> None:
        self.plan = plan
        self.elements = self.multiply_adds = self.kept = self.weights = 0

    def encoder(self, width: int, voxels: int) -> list[int]:
        """The voxels of each stage, highest resolution first."""
        resolutions = []
        if self.plan.kind == "residual_unet":
            top = self.plan.stages[0]
            self.conv_norm_act(width, top, voxels)  # the stem
            width = top.features
        for stage in self.plan.stages:
            strided = prod(stage.stride) > 1
            voxels //= prod(stage.stride)
            for _ in range(max(1, stage.blocks)):
                self.encoder_block(width, stage, voxels, strided)
                width, strided = stage.features, False
            resolutions.append(voxels)
        return resolutions

    def encoder_block(self, width: int, stage: StagePlan, voxels: int, strided: bool) -> None:
        self.conv_norm_act(width, stage, voxels)
        if self.plan.kind == "residual_unet":
            self.conv_norm_act(stage.features, stage, voxels)
            if width != stage.features:  # the shortcut, of what was averaged before
                self.kept += width * voxels if strided else 0
                self.conv(width, stage.features, 1, voxels, bias=False)
                self.norm(stage.features, voxels)
        if self.plan.squeeze_excitation:
            self.squeeze_excitation(stage.features, voxels)

    def squeeze_excitation(self, features: int, voxels: int) -> None:
        squeezed = max(1, features // SQUEEZE_REDUCTION)
        self.conv(features, squeezed, 1, 1, bias=True)
        self.conv(squeezed, features, 1, 1, bias=True)
        self.kept += features + squeezed + features  # means, squeezed ones, and their weights
        self.kept += features * voxels  # what was weighed

    def decoder(self, resolutions: list[int], outputs: int) -> None:
        stages = self.plan.stages
        for level, (stage, below) in enumerate(pairwise(stages)):
            voxels = resolutions[level]
            self.upsampling(below, stage.features, resolutions[level + 1])
            width = 2 * stage.features
            self.kept += width * voxels  # joined with what the encoder saw
            for _ in range(max(1, stage.decoder_blocks)):
                self.conv_norm_act(width, stage, voxels)
                width = stage.features
            looked_at = level == 0 or (self.plan.deep_supervision and level < len(stages) - 2)
            self.conv(width, outputs, 1, voxels if looked_at else 0, bias=True)

    def upsampling(self, below: StagePlan, features: int, voxels: int) -> None:
        """From the voxels of the stage below."""
        if self.plan.upsampling == "interpolated":
            self.conv(below.features, features, 1, voxels, self.plan.bias)
            return
        times = prod(below.stride)  # the voxels that each becomes
        self.conv(below.features, features * times, 1, voxels, self.plan.bias)
        if self.plan.upsampling == "transposed" and self.plan.bias:
            self.weights -= features * (times - 1)  # one bias for all of them

    def conv_norm_act(self, width: int, stage: StagePlan, voxels: int) -> None:
        self.conv(width, stage.features, prod(stage.kernel_size), voxels, self.plan.bias)
        self.norm(stage.features, voxels)
        self.kept += stage.features * voxels  # what is activated, in place

    def conv(self, width: int, features: int, kernel: int, voxels: int, bias: bool) -> None:
        self.elements += features * voxels
        self.multiply_adds += features * voxels * width * kernel
        self.weights += features * (width * kernel + bias)

    def norm(self, features: int, voxels: int) -> None:
        self.kept += features * (voxels + NORM_NUMBERS)
        self.weights += 2 * features
