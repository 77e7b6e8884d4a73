"""What an engine is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from autoseg.device import Device

# [n, channel, *space] -> [n, output, *space], which may be overwritten by a thread's next call
Runner = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A network to run on a device, for patches [channel, *space] of one shape.

    An engine that follows what a network does may do so with an input of the `example_shape`,
    which is smaller where the network is known to do the same at any size.
    What an engine compiles it may keep in the folder `cache`, under `key`, which stands for the
    weights; None: it keeps nothing.
    """

    network: nn.Module
    device: Device
    patch_shape: tuple[int, ...]
    example_shape: tuple[int, ...]
    key: str
    cache: Path | None
