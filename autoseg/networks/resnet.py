"""ResNets (He et al. 2016, arXiv:1512.03385) in 2D and 3D, whose last layers may be dilated.

A layer whose stride became dilation sees what the strided one saw: the convolution that would have
the stride leaves out as many voxels as the layer before, and those after it more, so that published
weights compute what they did, between the voxels too (Chen et al. 2017, arXiv:1706.05587).

Names of layers are the published ones, so that published weights fit. Norms are of each instance,
since batches are small: of published norms the scale and the shift are used, not the moments.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from autoseg.networks.blocks import NORM_EPSILON, Conv, InstanceNorm
from autoseg.planning.network_plan import DeepLabPlan, DilatedStage

MaxPool: dict[int, Callable[..., nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
EXPANSION = 4  # of a bottleneck


@dataclass(frozen=True, slots=True)
class DilatedConv:
    """A convolution with same padding, whose kernel leaves out voxels."""

    in_features: int
    features: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def dims(self) -> int:
        return len(self.kernel_size)

    @property
    def ones(self) -> tuple[int, ...]:
        return (1,) * self.dims

    def pointwise(self, in_features: int, features: int, stride: tuple[int, ...]) -> "DilatedConv":
        """The change of width alone."""
        return DilatedConv(in_features, features, self.ones, stride, self.ones)

    def build(self, groups: int = 1) -> nn.Module:
        padding = zip(self.kernel_size, self.dilation, strict=True)
        return Conv[self.dims](
            self.in_features,
            self.features,
            self.kernel_size,
            self.stride,
            padding=tuple((k - 1) // 2 * d for k, d in padding),
            dilation=self.dilation,
            groups=groups,
            bias=False,
        )


def norm_of(features: int, dims: int) -> nn.Module:
    return InstanceNorm[dims](features, eps=NORM_EPSILON, affine=True)


def _shortcut(shape: DilatedConv, features: int) -> nn.Sequential | None:
    if shape.in_features == features and shape.stride == shape.ones:
        return None
    projection = shape.pointwise(shape.in_features, features, shape.stride)
    return nn.Sequential(projection.build(), norm_of(features, shape.dims))


class BasicBlock(nn.Module):
    """Two convolutions of one width [batch, feature, *space]; the first may have a stride."""

    def __init__(self, shape: DilatedConv, second: DilatedConv) -> None:
        super().__init__()
        self.conv1, self.bn1 = shape.build(), norm_of(shape.features, shape.dims)
        self.conv2, self.bn2 = second.build(), norm_of(shape.features, shape.dims)
        self.downsample = _shortcut(shape, shape.features)
        nn.init.zeros_(self.bn2.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        total: torch.Tensor = self.bn2(self.conv2(y)) + skip
        return total.relu()


class Bottleneck(nn.Module):
    """A convolution between two of size 1 [batch, feature, *space]; the stride is in the middle, as
    in later weights."""

    def __init__(self, shape: DilatedConv) -> None:
        super().__init__()
        width = shape.features // EXPANSION
        narrow = replace(shape, in_features=width, features=width)
        self.conv1 = shape.pointwise(shape.in_features, width, shape.ones).build()
        self.bn1 = norm_of(width, shape.dims)
        self.conv2, self.bn2 = narrow.build(), norm_of(width, shape.dims)
        self.conv3 = shape.pointwise(width, shape.features, shape.ones).build()
        self.bn3 = norm_of(shape.features, shape.dims)
        self.downsample = _shortcut(shape, shape.features)
        nn.init.zeros_(self.bn3.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        total: torch.Tensor = self.bn3(self.conv3(y)) + skip
        return total.relu()


class ResNet(nn.Module):
    """A stem, pooling, and four layers; gives what each of the five stages sees."""

    def __init__(self, plan: DeepLabPlan, in_channels: int) -> None:
        super().__init__()
        stem, first, second, third, fourth = plan.stages
        self.dims = len(stem.stride)
        self.conv1 = DilatedConv(
            in_channels, stem.features, stem.kernel_size, stem.stride, (1,) * self.dims
        ).build()
        self.bn1 = norm_of(stem.features, self.dims)
        kernel = tuple(3 if s > 1 else 1 for s in first.stride)
        padding = tuple(k // 2 for k in kernel)
        self.maxpool = MaxPool[self.dims](kernel, first.stride, padding)
        bottleneck = plan.depth == 50
        unpooled = first.model_copy(update={"stride": (1,) * self.dims})
        self.layer1 = _layer(stem, unpooled, bottleneck)
        self.layer2 = _layer(first, second, bottleneck)
        self.layer3 = _layer(second, third, bottleneck)
        self.layer4 = _layer(third, fourth, bottleneck)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.bn1(self.conv1(image)).relu()
        features = [x]
        x = self.maxpool(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features


def _layer(before: DilatedStage, stage: DilatedStage, bottleneck: bool) -> nn.Sequential:
    """The blocks of a stage, after those of the one before."""
    first = DilatedConv(
        before.features, stage.features, stage.kernel_size, stage.stride, before.dilation
    )
    later = replace(first, in_features=stage.features, stride=first.ones, dilation=stage.dilation)
    shapes = (first, *[later] * (stage.blocks - 1))
    if bottleneck:
        return nn.Sequential(*map(Bottleneck, shapes))
    return nn.Sequential(*(BasicBlock(shape, later) for shape in shapes))
