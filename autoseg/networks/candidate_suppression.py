"""Candidates for one object become one, by matrix operations that any engine has.

Both take candidates that are sorted, the surest first, so that each is compared with those before.
"""

from math import sqrt

import torch

SIGMA = 2.0  # of matrix NMS


def mask_overlaps(masks: torch.Tensor) -> torch.Tensor:
    """Intersection over union [batch, n, n] of binary masks [batch, n, voxel]."""
    shares = masks / sqrt(masks.shape[2])  # products of large masks overflow in half precision
    both = (shares @ shares.transpose(1, 2)).to(masks)
    sizes = masks.mean(2)
    union = sizes[:, :, None] + sizes[:, None] - both
    return both / union.clamp_min(1 / masks.shape[2])


def matrix_decay(overlaps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How much of its score is left of each candidate [batch, n] of a class [batch, n]: the least,
    over surer ones of its class, of a Gaussian of their overlap, less what these themselves lose
    (matrix NMS: Wang et al. 2020, arXiv:2003.10152, equation 4)."""
    surer = _with_surer(overlaps, classes)  # [batch, surer, candidate]
    lost = surer.amax(1)[:, :, None]  # the most that a surer one overlaps with one before it
    decay = torch.exp(-SIGMA * (surer**2 - lost**2))
    return decay.amin(1)


def fast_keep(overlaps: torch.Tensor, classes: torch.Tensor, most: float) -> torch.Tensor:
    """Which candidates [batch, n] overlap no surer one of their class by more than that, even one
    that is itself dropped (fast NMS: Bolya et al. 2019, arXiv:1904.02689, section 3.3)."""
    return _with_surer(overlaps, classes).amax(1) <= most


def _with_surer(overlaps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Overlaps [batch, n, n] of each candidate, along the last axis, with surer ones of its class,
    and 0 with all others."""
    alike = classes[:, :, None] == classes[:, None]
    return torch.triu(overlaps * alike, diagonal=1)
