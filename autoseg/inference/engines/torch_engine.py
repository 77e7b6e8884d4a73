"""Patches through torch networks: averaged over mirror images and over folds."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import nn

from autoseg.device import Device


class TorchEngine:
    """Mean logits of all networks over all combinations of mirrored axes.

    Takes patches [n, channel, z, y, x] and gives logits [n, class, z, y, x] on the same device.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        spatial_dims: int,
        mirror_axes: Sequence[int],
        device: Device,
    ) -> None:
        self.networks = [network.to(device.torch_device).eval() for network in networks]
        self.spatial_dims = spatial_dims
        self.mirror_axes = tuple(mirror_axes)
        self.device = device

    @torch.inference_mode()
    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        count = 0
        with self.device.autocast():
            for axes in self._mirrors():
                mirrored = patches.flip(axes) if axes else patches
                for network in self.networks:
                    logits = self._run(network, mirrored).float()
                    logits = logits.flip(axes) if axes else logits
                    total = logits if total is None else total.add_(logits)
                    count += 1
        assert total is not None
        return total / count

    def _run(self, network: nn.Module, patches: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor
        if self.spatial_dims == 2:
            logits = network(patches.squeeze(2)).unsqueeze(2)  # patches are a single slice deep
        else:
            logits = network(patches)
        return logits

    def _mirrors(self) -> Iterator[tuple[int, ...]]:
        """Tensor axes to flip: every subset of the mirror axes, the empty one first."""
        for size in range(len(self.mirror_axes) + 1):
            for axes in combinations(self.mirror_axes, size):
                yield tuple(2 + axis for axis in axes)
