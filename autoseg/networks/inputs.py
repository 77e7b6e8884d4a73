"""What networks see: the scan's channels, then those of every other source in the model's plan.

A source other than the scan travels as one map of class indices beside the scan, in training and in
prediction alike, and becomes channels on the device. What a source needs stands in one entry of
the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augmentation.masks import change_mask
from autoseg.augmentation.sample import MaskAugmentation
from autoseg.planning.model_plan import InputPlan


@dataclass(frozen=True, slots=True)
class MapSource:
    """A source of input that is a map of class indices.

    `expand` makes it, [batch, *space], channels [batch, channel, *space], given how many. In
    training `simulate` changes that of a sample [z, y, x] to what prediction might be given.
    """

    expand: Callable[[torch.Tensor, int], torch.Tensor]
    simulate: Callable[[NDArray[np.uint8], MaskAugmentation], NDArray[np.uint8]]


def one_hot(classes: torch.Tensor, channels: int) -> torch.Tensor:
    """A channel for each class but the background, 1 or 0."""
    values = torch.arange(1, channels + 1, device=classes.device, dtype=classes.dtype)
    return (classes[:, None] == values.view(-1, *[1] * (classes.ndim - 1))).float()


SOURCES: dict[str, MapSource] = {
    "stage_mask": MapSource(expand=one_hot, simulate=change_mask),
}


def map_kinds(inputs: Sequence[InputPlan]) -> tuple[str, ...]:
    """The kinds of those inputs that travel as maps, in the order of their channels."""
    return tuple(source.kind for source in inputs if source.kind in SOURCES)


def network_input(
    image: torch.Tensor, maps: Mapping[str, torch.Tensor], inputs: Sequence[InputPlan]
) -> torch.Tensor:
    """All input channels of a batch: the scan's [batch, channel, *space], and those of the maps
    [batch, *space]."""
    parts = [image]
    for source in inputs:
        if source.kind in SOURCES:
            channels = len(source.channel_names)
            parts.append(SOURCES[source.kind].expand(maps[source.kind], channels))
    return image if len(parts) == 1 else torch.cat(parts, dim=1)
