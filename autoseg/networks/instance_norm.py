"""Instance norm (Ulyanov et al. 2016, arXiv:1607.08022) that is quick where a CPU trains.

torch's own copies maps that lie channels last, and back, which costs as much as convolutions gain
by that layout; of a single sample its gradients are wrong where they arrive channels last (torch
2.13). Where a CPU trains, maps are therefore normed here. Everywhere else, graphs of networks
included, torch's own is used.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from autoseg.networks.cpu_training import CHANNELS_LAST, cpu_trains, lies_channels_last


class QuickNorm2d(nn.InstanceNorm2d):
    """Instance norm with weights of maps [batch, feature, y, x]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _normed(self, x) if _is_quick(self, x) else super().forward(x)


class QuickNorm3d(nn.InstanceNorm3d):
    """Instance norm with weights of maps [batch, feature, z, y, x]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _normed(self, x) if _is_quick(self, x) else super().forward(x)


class FeatureNorm(nn.GroupNorm):
    """A group norm of one feature a group; of several samples maps may be of one voxel."""

    def __init__(self, features: int) -> None:
        super().__init__(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _normed(self, x) if cpu_trains(self, x) else super().forward(x)


def _is_quick(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: torch.Tensor) -> bool:
    """Whether a CPU trains; of maps of a single voxel torch says what is wrong."""
    plain = norm.affine and not norm.track_running_stats and x.ndim in CHANNELS_LAST
    return plain and x.shape[2:].numel() > 1 and cpu_trains(norm, x)


def _normed(
    norm: nn.InstanceNorm2d | nn.InstanceNorm3d | nn.GroupNorm, x: torch.Tensor
) -> torch.Tensor:
    """A norm over groups of one feature is an instance norm, and quick where maps are contiguous;
    where channels lie last its gradient is slow."""
    if lies_channels_last(x) and x.dtype == torch.float32:
        result: torch.Tensor = _ChannelsLast.apply(x, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
        return result
    return functional.group_norm(x, x.shape[1], norm.weight, norm.bias, norm.eps)


class _ChannelsLast(torch.autograd.Function):
    """Instance norm of maps [batch, feature, *space] that lie channels last, with weights and
    biases [feature]. These are repeated over the voxels of a row, so that loops are long."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        features, voxels = x.shape[1], x.shape[2:].numel()
        rows = _rows(x)
        centred = rows - _spread(_sums(rows, features) / voxels, rows)
        deviation = (_sums(centred * centred, features) / voxels + epsilon).sqrt()
        y = torch.empty_like(x)
        scale, shift = _spread(weight / deviation, rows), _spread(bias[None], rows)
        torch.addcmul(shift, centred, scale, out=_rows(y))
        ctx.save_for_backward(centred, weight, deviation)
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Gradients of the maps, the weights and the biases, from that of the result."""
        centred, weight, deviation = ctx.saved_tensors
        of_y = of_y.contiguous(memory_format=CHANNELS_LAST[of_y.ndim])
        features, voxels = of_y.shape[1], of_y.shape[2:].numel()
        rows = _rows(of_y)
        of_bias = _sums(rows, features)  # [batch, feature]
        of_weight = _sums(rows * centred, features) / deviation
        scale = weight / deviation
        of_x = torch.empty_like(of_y)
        mean = _spread(-scale * of_bias / voxels, rows)
        found = torch.addcmul(mean, rows, _spread(scale, rows), out=_rows(of_x))
        found.addcmul_(centred, _spread(-scale / deviation * of_weight / voxels, rows))
        return of_x, of_weight.sum(0), of_bias.sum(0), None


def _rows(x: torch.Tensor) -> torch.Tensor:
    """A view of maps that lie channels last, by rows along x [batch, row, voxel x feature]."""
    return x.movedim(1, -1).view(x.shape[0], -1, x.shape[-1] * x.shape[1])


def _sums(rows: torch.Tensor, features: int) -> torch.Tensor:
    """Over all voxels [batch, feature]."""
    return rows.view(rows.shape[0], -1, features).sum(1)


def _spread(of_features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Values of features [batch, feature] for each voxel of a row [batch, 1, voxel x feature]."""
    return of_features.repeat(1, rows.shape[2] // of_features.shape[1])[:, None]
