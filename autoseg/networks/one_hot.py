"""Class indices as channels: how a network sees the mask of the stage before it."""

import torch


def one_hot(classes: torch.Tensor, foreground_classes: int) -> torch.Tensor:
    """Class indices [batch, z, y, x] as channels [batch, class, z, y, x], without background."""
    values = torch.arange(1, foreground_classes + 1, device=classes.device, dtype=classes.dtype)
    return (classes[:, None] == values.view(-1, 1, 1, 1)).float()
