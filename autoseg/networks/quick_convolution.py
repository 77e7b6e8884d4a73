"""Convolutions of volumes that are quick where a CPU trains: of single voxels, and depthwise.

torch's own (2.13) leave both to general ways there. One of single voxels is a product of matrices.
Of a depthwise one, where channels lie last, a forward pass takes a tenth of the time of either
gradient: that of its maps is a forward pass with the kernel turned round, and that of the kernel is
summed over slices, of which torch has a quick one. Everywhere else, graphs of networks included,
torch's own is used.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from autoseg.networks.cpu_training import CHANNELS_LAST, cpu_trains, lies_channels_last

LAST = CHANNELS_LAST[5]
ONES = (1, 1, 1)


class QuickConv3d(nn.Conv3d):
    """A convolution of maps [batch, feature, z, y, x]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if _is_quick(self, x) and _sees_one_voxel(self):
            seen = x if self.stride == ONES else _strided(x, self.stride)
            return _of_voxels(seen, self.weight.flatten(1), self.bias)
        if _is_quick(self, x) and _is_depthwise(self):
            return _depthwise(self, x)
        return super().forward(x)


class QuickTransposed3d(nn.ConvTranspose3d):
    """A transposed convolution of maps [batch, feature, z, y, x]."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        plain = output_size is None and not any(self.output_padding)
        if plain and _is_quick(self, x) and _sees_one_voxel(self):
            spread = _spread(_of_voxels(x, self.weight.flatten(1).t()), self.stride)
            return spread if self.bias is None else spread + self.bias.view(-1, 1, 1, 1)
        if plain and _is_quick(self, x) and _is_depthwise(self):
            return _depthwise(self, x)
        return super().forward(x, output_size)


Layer = QuickConv3d | QuickTransposed3d


def _is_quick(layer: Layer, x: torch.Tensor) -> bool:
    if x.ndim != 5 or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return cpu_trains(layer, x) and layer.padding_mode == "zeros"


def _sees_one_voxel(layer: Layer) -> bool:
    return layer.kernel_size == ONES and layer.padding == (0, 0, 0) and layer.groups == 1


def _is_depthwise(layer: Layer) -> bool:
    """Whether each feature is seen alone, by an odd kernel that keeps the size."""
    widths = {layer.groups, layer.in_channels, layer.out_channels}
    odd = all(edge % 2 == 1 for edge in layer.kernel_size)
    return len(widths) == 1 and odd and layer.padding == _around(layer.kernel_size, layer.dilation)


def _of_voxels(
    x: torch.Tensor,  # [batch, feature, z, y, x]
    weight: torch.Tensor,  # [wanted, feature]
    bias: torch.Tensor | None = None,  # [wanted]
) -> torch.Tensor:
    """All features of each voxel, weighed; laid out as the maps are."""
    if lies_channels_last(x):
        return functional.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)
    weights, voxels = weight.expand(x.shape[0], -1, -1), x.flatten(2)
    if bias is None:
        mixed = torch.bmm(weights, voxels)
    else:
        mixed = torch.baddbmm(bias[:, None], weights, voxels)
    return mixed.view(x.shape[0], weight.shape[0], *x.shape[2:])


def _depthwise(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    steps = _Steps(layer.stride, layer.dilation, isinstance(layer, QuickTransposed3d))
    result: torch.Tensor = _Depthwise.apply(x, layer.weight, layer.bias, steps)  # type: ignore[no-untyped-call]
    return result


class _Steps(NamedTuple):
    """How far apart a kernel is set, how far apart its values are, and whether it is transposed."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool


class _Depthwise(torch.autograd.Function):
    """Maps [batch, feature, z, y, x], each seen by a kernel of its own [feature, 1, *kernel] with
    same padding; of the result channels lie last. A transposed one sees with the kernel turned
    round what has zeros between its voxels."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, steps: _Steps
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = steps
        if steps.transposed:
            return _same(_spread(x, steps.stride), _turned(weight), bias, steps.dilation)
        return _same(_last(x), weight, bias, steps.dilation, steps.stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the maps, the kernels and the biases, from that of the result."""
        x, weight = ctx.saved_tensors
        stride, dilation, transposed = ctx.steps
        of_maps, of_kernels, of_bias = ctx.needs_input_grad[:3]
        found: list[torch.Tensor | None] = [None, None, None]
        if transposed:
            of_y = _last(of_y)
            if of_maps:
                found[0] = _same(of_y, weight, None, dilation, stride)
            if of_kernels:
                found[1] = _turned(_by_slices(_spread(x, stride), of_y, weight, dilation))
        else:
            spread = _last(of_y) if stride == ONES else _spread(of_y, stride, x.shape[2:])
            if of_maps:
                found[0] = _same(spread, _turned(weight), None, dilation)
            if of_kernels:
                found[1] = _by_slices(_last(x), spread, weight, dilation)
        if of_bias:
            found[2] = of_y.sum((0, 2, 3, 4))
        return (*found, None)


def _same(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dilation: tuple[int, ...],
    stride: tuple[int, ...] = ONES,
) -> torch.Tensor:
    around = _around(weight.shape[2:], dilation)
    return functional.conv3d(x, weight, bias, stride, around, dilation, weight.shape[0])


def _turned(kernels: torch.Tensor) -> torch.Tensor:
    return kernels.flip(2, 3, 4)


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=LAST)


def _by_slices(
    x: torch.Tensor,  # [batch, feature, z, y, x]
    of_y: torch.Tensor,  # the same
    weight: torch.Tensor,  # [feature, 1, *kernel]
    dilation: Sequence[int],
) -> torch.Tensor:
    """The gradient of kernels from that of a result of stride 1: for each slice of the kernel that
    of a convolution in the plane, over all slices that meet."""
    depth, edges = weight.shape[2], weight.shape[3:]
    around, found = _around(edges, dilation[1:]), []
    for place in range(depth):
        shift = dilation[0] * (place - depth // 2)
        seen, told = (_slices(values, part) for values, part in ((x, shift), (of_y, -shift)))
        plane = weight[:, :, place]
        if not seen.shape[0]:
            found.append(torch.zeros_like(plane))
            continue
        _, of_plane, _ = torch.ops.aten.convolution_backward(
            told, seen, plane, None, (1, 1), around, dilation[1:], False, (0, 0), x.shape[1],
            (False, True, False),
        )  # fmt: skip
        found.append(of_plane)
    return torch.stack(found, dim=2)


def _slices(x: torch.Tensor, shift: int) -> torch.Tensor:
    """Slices [batch x slice, feature, y, x] that have one so far above them, or below."""
    start, stop = max(0, shift), max(0, x.shape[2] + min(0, shift))
    return x.movedim(1, -1)[:, start:stop].flatten(0, 1).movedim(-1, 1)


def _spread(
    x: torch.Tensor, stride: Sequence[int], size: Sequence[int] | None = None
) -> torch.Tensor:
    """Maps with zeros between their voxels, as far apart as a stride says, channels last; no more
    behind the last voxel than a size says."""
    least = [(edge - 1) * step + 1 for edge, step in zip(x.shape[2:], stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *(size or least)).contiguous(memory_format=LAST)
    spread[_every(stride)] = x
    return spread


def _strided(x: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """The voxels that a stride steps on, laid out as all are."""
    layout = LAST if lies_channels_last(x) else torch.contiguous_format
    return x[_every(stride)].contiguous(memory_format=layout)


def _every(stride: Sequence[int]) -> tuple[slice, ...]:
    """The voxels that a stride steps on."""
    return (slice(None), slice(None), *(slice(None, None, step) for step in stride))


def _around(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """The padding that keeps a size."""
    return tuple(step * (edge // 2) for edge, step in zip(kernel, dilation, strict=True))
