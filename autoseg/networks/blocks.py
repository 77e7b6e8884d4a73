"""Building blocks of the networks, for 2D and 3D alike."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

Conv: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TransposedConv: dict[int, Callable[..., nn.Module]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
InstanceNorm: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.01


class ConvNormAct(nn.Module):
    """Convolution with same padding, instance norm, leaky ReLU."""

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        bias: bool,
    ) -> None:
        super().__init__()
        dims = len(kernel_size)
        padding = tuple((k - 1) // 2 for k in kernel_size)
        self.conv = Conv[dims](
            in_features, features, tuple(kernel_size), tuple(stride), padding, bias=bias
        )
        self.norm = InstanceNorm[dims](features, eps=NORM_EPSILON, affine=True)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.activation(self.norm(self.conv(x)))
        return result


def stack_blocks(
    count: int,
    in_features: int,
    features: int,
    kernel_size: Sequence[int],
    first_stride: Sequence[int],
    bias: bool,
) -> nn.Sequential:
    """A run of blocks of equal width; the first one changes features and resolution."""
    ones = (1,) * len(kernel_size)
    return nn.Sequential(
        *(
            ConvNormAct(
                in_features if index == 0 else features,
                features,
                kernel_size,
                first_stride if index == 0 else ones,
                bias,
            )
            for index in range(count)
        )
    )


def initialize(module: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases at 0 (He et al. 2015, arXiv:1502.01852)."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
