"""Boxes in any number of dimensions: their overlap, and how they differ from others.

A box is [2 x axis]: its low edges along all axes, then its high ones, in voxels of the patch; a
voxel reaches from its index to the next.
"""

import math
from collections.abc import Sequence

import torch

LARGEST_GROWTH = math.log(1000 / 16)  # of a side, or the inverse; what is beyond it is no box


def sides(boxes: torch.Tensor) -> torch.Tensor:
    """How long boxes [..., 2 x axis] are [..., axis]."""
    low, high = boxes.chunk(2, dim=-1)
    return high - low


def centres(boxes: torch.Tensor) -> torch.Tensor:
    """The middles of boxes [..., axis]."""
    low, high = boxes.chunk(2, dim=-1)
    return (low + high) / 2


def pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box [..., n, 2 x axis] with each other [..., n, other]."""
    dims = boxes.shape[-1] // 2
    own, other = (x.movedim(-1, 0).contiguous() for x in (boxes, others))
    both = torch.ones((), device=boxes.device)
    for axis in range(dims):  # one after another, in place: memory of pairs is what takes the time
        low = torch.maximum(own[axis][..., :, None], other[axis][..., None, :])
        high = torch.minimum(own[dims + axis][..., :, None], other[dims + axis][..., None, :])
        both = high.sub_(low).clamp_min_(0).mul_(both)
    sizes = sides(boxes).prod(-1)[..., :, None] + sides(others).prod(-1)[..., None, :]
    return both.div_(sizes.sub_(both))


def iou_of_pairs(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box with its own other [...]."""
    (low, high), (other_low, other_high) = boxes.chunk(2, dim=-1), others.chunk(2, dim=-1)
    shared = torch.minimum(high, other_high) - torch.maximum(low, other_low)
    both = shared.clamp_min(0).prod(-1)
    return both / (sides(boxes).prod(-1) + sides(others).prod(-1) - both)


def generalized_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of each box with its own other [...]: IoU, less the share of the smallest box around both
    that neither fills (Rezatofighi et al. 2019, arXiv:1902.09630); from -1 to 1."""
    (low, high), (other_low, other_high) = boxes.chunk(2, dim=-1), others.chunk(2, dim=-1)
    iou = iou_of_pairs(boxes, others)
    union = (sides(boxes).prod(-1) + sides(others).prod(-1)) / (1 + iou)
    around = (torch.maximum(high, other_high) - torch.minimum(low, other_low)).prod(-1)
    return iou - (around - union) / around


def encoded(boxes: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """How boxes differ from references [..., 2 x axis]: by how many of their sides they are moved,
    then the logarithms of how much longer they are (Girshick et al. 2014, arXiv:1311.2524)."""
    moved = (centres(boxes) - centres(references)) / sides(references)
    return torch.cat((moved, (sides(boxes) / sides(references)).log()), dim=-1)


def decoded(deltas: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """The boxes that differ so from references."""
    moved, growth = deltas.chunk(2, dim=-1)
    middle = centres(references) + moved * sides(references)
    half = sides(references) * growth.clamp(-LARGEST_GROWTH, LARGEST_GROWTH).exp() / 2
    return torch.cat((middle - half, middle + half), dim=-1)


def within_patch(boxes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The part of boxes that lies in a patch of a size; at least a voxel of it."""
    dims = len(size)
    low = [boxes[..., axis].clamp(0, n - 1) for axis, n in enumerate(size)]
    high = [
        torch.maximum(boxes[..., dims + axis].clamp_max(n), low[axis] + 1)
        for axis, n in enumerate(size)
    ]
    return torch.stack((*low, *high), dim=-1)
