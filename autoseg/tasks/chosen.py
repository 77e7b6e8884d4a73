"""A fixed number of what is to be learned from, so that no device is asked how much there is; and
losses of what is rare."""

import torch
from torch.nn import functional

MASKS_AT_ONCE = 48  # of a sample, whose masks are made in a step
GAMMA, ALPHA = 2.0, 0.25


def at_random(wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of those that are wanted [batch, n], drawn at random: their index [batch, m], and 1
    where there was one to be drawn, else 0."""
    drawn = torch.rand(wanted.shape, device=wanted.device) * wanted
    found = drawn.topk(min(MASKS_AT_ONCE, wanted.shape[1]), dim=1)
    return found.indices, (found.values > 0).float()


def focal_losses(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Of each logit (Lin et al. 2017, arXiv:1708.02002), for what is 1 or 0."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    off = truth * (1 - probability) + (1 - truth) * probability
    weight = ALPHA * truth + (1 - ALPHA) * (1 - truth)
    return weight * off**GAMMA * cross_entropy
