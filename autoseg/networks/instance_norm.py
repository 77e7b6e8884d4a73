"""Instance norm (Ulyanov et al. 2016, arXiv:1607.08022) that is quick where a CPU trains.

torch's own copies maps that lie channels last, and back, which costs as much as convolutions gain
by that layout. In training on a CPU, maps of single precision are therefore normed here. Everywhere
else, graphs of networks included, torch's own is used.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class QuickNorm2d(nn.InstanceNorm2d):
    """Instance norm with weights of maps [batch, feature, y, x]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _normed(self, x) if _is_quick(self, x) else super().forward(x)


class QuickNorm3d(nn.InstanceNorm3d):
    """Instance norm with weights of maps [batch, feature, z, y, x]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _normed(self, x) if _is_quick(self, x) else super().forward(x)


def _is_quick(norm: nn.Module, x: torch.Tensor) -> bool:
    single = x.device.type == "cpu" and x.dtype == torch.float32
    varied = x[0, 0].numel() > 1  # else torch says what is wrong
    return norm.training and single and varied and not torch.compiler.is_compiling()


def _normed(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: torch.Tensor) -> torch.Tensor:
    """A norm over groups of one feature is an instance norm, and quick where maps are contiguous;
    where channels lie last its gradient is slow."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim]):
        return functional.group_norm(x, x.shape[1], norm.weight, norm.bias, norm.eps)
    result: torch.Tensor = _ChannelsLast.apply(x, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    return result


class _ChannelsLast(torch.autograd.Function):
    """Of maps that lie channels last. Weights are repeated over the voxels of a slice, so that
    elementwise loops are long."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        features, voxels = x.shape[1], x[0, 0].numel()
        values = _slices(x)
        centred = values - _spread(_sums(values, features) / voxels, values)
        deviation = (_sums(centred * centred, features) / voxels + epsilon).sqrt()
        y = torch.empty_like(x)
        scale, shift = _spread(weight / deviation, values), _spread(bias[None], values)
        torch.addcmul(shift, centred, scale, out=_slices(y))
        ctx.save_for_backward(centred, weight, deviation)
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        centred, weight, deviation = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST[gradient.ndim])
        features, voxels = gradient.shape[1], gradient[0, 0].numel()
        values = _slices(gradient)
        of_bias = _sums(values, features)  # [batch, feature]
        of_weight = _sums(values * centred, features) / deviation
        scale = weight / deviation
        x = torch.empty_like(gradient)
        mean = _spread(-scale * of_bias / voxels, values)
        found = torch.addcmul(mean, values, _spread(scale, values), out=_slices(x))
        found.addcmul_(centred, _spread(-scale / deviation * of_weight / voxels, values))
        return x, of_weight.sum(0), of_bias.sum(0), None


def _slices(x: torch.Tensor) -> torch.Tensor:
    """A view of maps that lie channels last [batch, rows, voxel of a slice x feature]."""
    width = x.shape[1] * x.shape[-1] * x.shape[-2]
    return x.movedim(1, -1).view(x.shape[0], -1, width)


def _sums(slices: torch.Tensor, features: int) -> torch.Tensor:
    """Over all voxels [batch, feature]."""
    return slices.view(slices.shape[0], -1, features).sum(1)


def _spread(of_features: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
    """Values of features [batch, feature] for each voxel of a slice [batch, 1, voxel x feature]."""
    return of_features.repeat(1, slices.shape[2] // of_features.shape[1])[:, None]
