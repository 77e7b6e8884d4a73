"""DeepLabV3+ after Chen et al. 2018 (arXiv:1802.02611), in 2D and 3D.

It takes [batch, channel, *patch], a multiple of its output stride, and returns logits
[batch, class, *patch].
"""

from dataclasses import replace

import torch
from torch import nn

from autoseg.networks.blocks import Conv, Dropout, initialize, resized
from autoseg.networks.resnet import DilatedConv, ResNet, norm_of
from autoseg.planning.network_plan import DeepLabPlan


class DeepLabV3Plus(nn.Module):
    """A dilated encoder, an atrous spatial pyramid, and a decoder that looks back once."""

    def __init__(self, plan: DeepLabPlan, in_channels: int, class_count: int) -> None:
        super().__init__()
        dims = len(plan.stages[0].stride)
        low = plan.stages[plan.low_level]
        ones = (1,) * dims
        self.low_level = plan.low_level
        self.encoder = ResNet(plan, in_channels)
        self.pyramid = AtrousPyramid(plan)
        self.project = conv_norm_relu(
            DilatedConv(low.features, plan.low_level_features, ones, ones, ones)
        )
        width = plan.pyramid_features
        fuse = DilatedConv(width + plan.low_level_features, width, low.kernel_size, ones, ones)
        self.fuse = nn.Sequential(
            conv_norm_relu(fuse, plan.separable),
            conv_norm_relu(replace(fuse, in_features=width), plan.separable),
        )
        self.head = Conv[dims](width, class_count, 1)
        for part in (self.encoder, self.pyramid, self.project, self.fuse, self.head):
            part.apply(initialize)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.encoder(image)
        low = self.project(features[self.low_level])
        context = resized(self.pyramid(features[-1]), low.shape[2:])
        logits: torch.Tensor = self.head(self.fuse(torch.cat((context, low), dim=1)))
        return resized(logits, image.shape[2:])


class AtrousPyramid(nn.Module):
    """One voxel, three dilated kernels and the whole map, side by side, then mixed."""

    def __init__(self, plan: DeepLabPlan) -> None:
        super().__init__()
        deepest, width = plan.stages[-1], plan.pyramid_features
        dims = len(deepest.stride)
        ones = (1,) * dims
        point = DilatedConv(deepest.features, width, ones, ones, ones)
        around = replace(point, kernel_size=deepest.kernel_size)
        self.branches = nn.ModuleList(
            [
                conv_norm_relu(point),
                *(
                    conv_norm_relu(replace(around, dilation=rate), plan.separable)
                    for rate in plan.rates
                ),
            ]
        )
        # Of a single value for each feature no instance has moments: features are normed together.
        self.pooled = nn.Sequential(point.build(), nn.GroupNorm(1, width), nn.ReLU())
        branches = len(self.branches) + 1
        self.mix = nn.Sequential(
            conv_norm_relu(replace(point, in_features=branches * width)),
            Dropout[dims](plan.dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)  # [batch, feature, 1, ...]
        pooled = self.pooled(mean).expand(-1, -1, *x.shape[2:])
        seen = [branch(x) for branch in self.branches]
        mixed: torch.Tensor = self.mix(torch.cat((*seen, pooled), dim=1))
        return mixed


def conv_norm_relu(shape: DilatedConv, separable: bool = False) -> nn.Sequential:
    """Convolution, instance norm, ReLU; separable: each feature alone, then all at a voxel."""
    if not separable:
        return nn.Sequential(shape.build(), norm_of(shape.features, shape.dims), nn.ReLU())
    depthwise = replace(shape, features=shape.in_features)
    point = shape.pointwise(shape.in_features, shape.features, shape.ones)
    return nn.Sequential(
        depthwise.build(groups=shape.in_features),
        norm_of(shape.in_features, shape.dims),
        nn.ReLU(),
        point.build(),
        norm_of(shape.features, shape.dims),
        nn.ReLU(),
    )
