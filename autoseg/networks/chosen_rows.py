"""Rows of tensors, the best of many."""

import torch


def surest(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest scores [batch, count] of [batch, n], falling, and where they are; of fewer, all
    of them."""
    found = scores.topk(min(count, scores.shape[1]), dim=1)
    return found.values, found.indices


def taken(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows [batch, m, ...] of values [batch, n, ...] by their index [batch, m]."""
    shape = index.view(*index.shape, *[1] * (values.ndim - 2))
    return values.gather(1, shape.expand(-1, -1, *values.shape[2:]))
