"""How maps lie in memory, and whether a CPU trains on them: some layers are quicker there."""

import torch
from torch import nn

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def cpu_trains(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether a layer learns from maps [batch, feature, *space] on a CPU, and is not compiled."""
    return layer.training and x.device.type == "cpu" and not torch.compiler.is_compiling()


def lies_channels_last(x: torch.Tensor) -> bool:
    """Whether maps are not contiguous, but would be with features as the last axis."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim])
