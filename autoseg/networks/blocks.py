"""Building blocks of the networks, for 2D and 3D alike."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

Conv: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TransposedConv: dict[int, Callable[..., nn.Module]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
InstanceNorm: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AveragePool: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution with same padding: widths in and out, kernel size and stride per axis."""

    in_features: int
    features: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    bias: bool

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
    return conv_norm(shape).append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions, added to what they start from: the basic block of He et al. 2016.

    As in ResNet-D (He et al. 2019, arXiv:1812.01187) the skip is averaged where the block is
    strided, and a convolution of size 1 follows only where the width changes.
    """

    def __init__(self, shape: ConvShape) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(shape)
        self.conv2 = conv_norm(shape.following())
        self.skip = nn.Sequential()
        if shape.stride != shape.ones:
            self.skip.append(AveragePool[shape.dims](shape.stride, shape.stride))
        if shape.in_features != shape.features:
            self.skip.append(conv_norm(shape.projection()))
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv2(self.conv1(x))
        y += self.skip(x)
        result: torch.Tensor = self.activation(y)
        return result


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
