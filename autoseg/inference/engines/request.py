"""What an engine is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from autoseg.device import Device
from autoseg.kept import kept_path

# [n, channel, *space] -> [n, output, *space], which may be overwritten by a thread's next call
Runner = Callable[[torch.Tensor], torch.Tensor]

# How torch runs a network: as it is, laid out channels last, or recorded on a GPU and replayed.
TorchExecution = Literal["eager", "channels_last", "replayed"]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A network to run on a device, for patches [channel, *space] of one shape.

    An engine that follows what a network does may do so with an input of the `example_shape`,
    which is smaller where the network is known to do the same at any size.
    What an engine compiles it may keep in the folder `cache`, under `key`, which stands for the
    weights; None: it keeps nothing. OpenVINO runs `streams` patches beside each other, None being
    what suits their size. A network of `places` computes where things are, which engines must not
    round to half precision.
    """

    network: nn.Module
    device: Device
    patch_shape: tuple[int, ...]
    example_shape: tuple[int, ...]
    key: str
    cache: Path | None
    streams: int | None = None
    execution: TorchExecution = "eager"
    places: bool = False

    def kept_path(self, described: str, suffix: str) -> Path | None:
        """Where the network is kept that was made for this request, as `described`."""
        return kept_path(self.cache, f"{self.key} {self.patch_shape} {described}", suffix)
