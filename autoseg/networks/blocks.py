"""Building blocks of the networks, for 2D and 3D alike."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import nn
from torch.nn import functional

from autoseg.networks.instance_norm import QuickNorm2d, QuickNorm3d
from autoseg.networks.quick_convolution import QuickConv3d, QuickTransposed3d
from autoseg.planning.network_plan import SQUEEZE_REDUCTION, Upsampling

Conv: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: QuickConv3d}
TransposedConv: dict[int, Callable[..., nn.Module]] = {
    2: nn.ConvTranspose2d,
    3: QuickTransposed3d,
}
InstanceNorm: dict[int, Callable[..., nn.Module]] = {2: QuickNorm2d, 3: QuickNorm3d}
Dropout: dict[int, Callable[..., nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
AveragePool: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution with same padding: widths in and out, kernel size and stride per axis.

    With `squeezed`, its block ends with squeeze and excitation.
    """

    in_features: int
    features: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    bias: bool
    squeezed: bool = False

    @property
    def dims(self) -> int:
        return len(self.kernel_size)

    @property
    def ones(self) -> tuple[int, ...]:
        """The stride that keeps the resolution, or the kernel that sees one voxel."""
        return (1,) * self.dims

    def following(self) -> "ConvShape":
        """What may follow it: the same, with neither width nor resolution changed."""
        return replace(self, in_features=self.features, stride=self.ones)

    def projection(self) -> "ConvShape":
        """The change of width alone."""
        return replace(self, kernel_size=self.ones, stride=self.ones, bias=False)


Block = Callable[[ConvShape], nn.Module]


def conv_norm(shape: ConvShape) -> nn.Sequential:
    """Convolution, instance norm."""
    conv = Conv[shape.dims](
        shape.in_features,
        shape.features,
        shape.kernel_size,
        shape.stride,
        padding=tuple((k - 1) // 2 for k in shape.kernel_size),
        bias=shape.bias,
    )
    norm = InstanceNorm[shape.dims](shape.features, eps=NORM_EPSILON, affine=True)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm))


def conv_norm_act(shape: ConvShape) -> nn.Sequential:
    """Convolution, instance norm, leaky ReLU."""
    block = conv_norm(shape).append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
    return block.append(SqueezeExcitation(shape.features)) if shape.squeezed else block


class SqueezeExcitation(nn.Module):
    """Weighs each feature by a function of all features' means over the patch.

    Hu et al. 2018 (arXiv:1709.01507), with their reduction of 16.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(features, max(1, features // SQUEEZE_REDUCTION))
        self.excite = nn.Linear(self.squeeze.out_features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.flatten(2).mean(2)  # [batch, feature]
        weight: torch.Tensor = self.excite(self.squeeze(means).relu()).sigmoid()
        return x * weight.view(*weight.shape, *[1] * (x.ndim - 2))


class ResidualBlock(nn.Module):
    """Two convolutions, added to what they start from: the basic block of He et al. 2016.

    As in ResNet-D (He et al. 2019, arXiv:1812.01187) the skip is averaged where the block is
    strided, and a convolution of size 1 follows only where the width changes.
    """

    def __init__(self, shape: ConvShape) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(replace(shape, squeezed=False))
        self.conv2 = conv_norm(shape.following())
        self.squeeze = SqueezeExcitation(shape.features) if shape.squeezed else nn.Identity()
        self.skip = nn.Sequential()
        if shape.stride != shape.ones:
            self.skip.append(AveragePool[shape.dims](shape.stride, shape.stride))
        if shape.in_features != shape.features:
            self.skip.append(conv_norm(shape.projection()))
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.squeeze(self.conv2(self.conv1(x)))
        y += self.skip(x)
        result: torch.Tensor = self.activation(y)
        return result


def upsampling(kind: Upsampling, shape: ConvShape) -> nn.Module:
    """To a resolution `shape.stride` times as high, from `in_features` to `features`.

    A transposed convolution; a convolution of size 1 and linear interpolation, in this order, which
    is as good and cheaper; or a convolution of size 1 whose features become voxels (Shi et al.
    2016, arXiv:1609.05158).
    """
    if kind == "transposed":
        return TransposedConv[shape.dims](
            shape.in_features, shape.features, shape.stride, shape.stride, bias=shape.bias
        )
    point = Conv[shape.dims]
    if kind == "interpolated":
        linear = nn.Upsample(scale_factor=shape.stride, mode=LINEAR[shape.dims])
        return nn.Sequential(point(shape.in_features, shape.features, 1, bias=shape.bias), linear)
    width = shape.features * prod(shape.stride)
    return nn.Sequential(
        point(shape.in_features, width, 1, bias=shape.bias), ShuffleToSpace(shape.stride)
    )


def resized(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps [batch, feature, *space] of another size, interpolated linearly."""
    return functional.interpolate(values, size=tuple(size), mode=LINEAR[len(size)])


class ShuffleToSpace(nn.Module):
    """Features [batch, feature x voxel, *space] to voxels [batch, feature, *space x stride]."""

    def __init__(self, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, *space = x.shape
        dims = len(space)
        x = x.view(batch, -1, *self.stride, *space)
        pairs = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
        sizes = [n * stride for n, stride in zip(space, self.stride, strict=True)]
        return x.permute(0, 1, *pairs).reshape(batch, -1, *sizes)


def stack_blocks(block: Block, count: int, first: ConvShape) -> nn.Sequential:
    """A run of at least one block; only the first changes width and resolution."""
    return nn.Sequential(block(first), *(block(first.following()) for _ in range(count - 1)))


def initialize(module: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases at 0 (He et al. 2015, arXiv:1502.01852).

    The last norm of a residual block begins at 0, so that the block does nothing but its skip
    (Goyal et al. 2017, arXiv:1706.02677). nnU-Net v2 does both.
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.get_parameter("norm.weight"))
