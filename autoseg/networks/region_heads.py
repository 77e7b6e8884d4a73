"""What lies in a box: its class, a better box, and a mask (He et al. 2017, arXiv:1703.06870)."""

from math import prod
from typing import NamedTuple

import torch
from torch import nn

from autoseg.networks.blocks import Conv, TransposedConv
from autoseg.networks.feature_pyramid import conv_group_norm
from autoseg.planning.network_plan import PerAxis


class Regions(NamedTuple):
    """Boxes that were looked at [batch, region, 2 x axis], logits of classes and of none [batch,
    region, class + 1], and the boxes that were found instead."""

    boxes: torch.Tensor
    classes: torch.Tensor
    better: torch.Tensor


class BoxHead(nn.Module):
    """Two layers over all that a region holds, then classes and one better box for all of them."""

    def __init__(self, features: int, bins: PerAxis, hidden: int, class_count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features * prod(bins), hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.classes, self.no_object = nn.Linear(hidden, class_count), nn.Linear(hidden, 1)
        self.deltas = nn.Linear(hidden, 2 * len(bins))
        for layer, std in ((self.classes, 0.01), (self.no_object, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of regions [region, feature, *bins]: logits [region, class + 1], deltas."""
        x = self.layers(seen.flatten(1))
        classes = torch.cat((self.classes(x), self.no_object(x)), dim=1)
        return classes.float(), self.deltas(x).float()


class MaskHead(nn.Module):
    """Convolutions, and one mask, twice as fine as the bins along axes that have several."""

    def __init__(self, features: int, bins: PerAxis, layers: int) -> None:
        super().__init__()
        dims = len(bins)
        kernel = tuple(3 if n > 1 else 1 for n in bins)
        finer = tuple(2 if n > 1 else 1 for n in bins)
        self.layers = nn.Sequential(
            *(conv_group_norm(features, features, kernel) for _ in range(layers))
        )
        self.up = TransposedConv[dims](features, features, finer, finer)
        self.mask = Conv[dims](features, 1, 1)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Of regions [region, feature, *bins]: logits [region, *finer bins]."""
        logits: torch.Tensor = self.mask(self.up(self.layers(seen)).relu())
        return logits[:, 0].float()
