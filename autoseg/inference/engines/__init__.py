"""Engines run a model's networks on patches; one table, by name."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from autoseg.device import Device
from autoseg.inference.engines.torch_engine import TorchEngine

EngineName = Literal["torch"]

ENGINES: dict[
    EngineName,
    Callable[
        [Sequence[nn.Module], int, Sequence[int], Device],
        Callable[[torch.Tensor], torch.Tensor],
    ],
] = {
    "torch": TorchEngine,
}
