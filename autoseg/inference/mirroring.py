"""Mirror images of patches, and networks that see all of them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import nn


def mirrors(tensor_axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Axes to flip together: every subset, the empty one first."""
    for size in range(len(tensor_axes) + 1):
        yield from combinations(tensor_axes, size)


def network_axes(mirror_axes: Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """Axes of a network's input for those of prepared scans, 0 to 2; a single slice has no first
    one, and its mirror image is itself."""
    skipped = 3 - spatial_dims
    return tuple(2 + axis - skipped for axis in mirror_axes if axis >= skipped)


class Mirrored(nn.Module):
    """The mean of a network's logits over mirror images of its input [n, channel, *space], which
    `seen_back` puts back as they lie in the image itself.

    One after another: together they would take as many times the memory.
    """

    def __init__(
        self,
        network: nn.Module,
        tensor_axes: Sequence[int],
        seen_back: Callable[[torch.Tensor, Sequence[int]], torch.Tensor],
    ) -> None:
        super().__init__()
        self.network, self.seen_back = network, seen_back
        self.subsets = tuple(mirrors(tensor_axes))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.network(patches)
        for axes in self.subsets[1:]:
            total = total + self.seen_back(self.network(patches.flip(axes)), axes)
        return total / len(self.subsets) if len(self.subsets) > 1 else total
