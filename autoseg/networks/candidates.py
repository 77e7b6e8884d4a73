"""What one-stage networks find in a patch: the surest candidates, and scores of all classes."""

from typing import NamedTuple

import torch

LEAST_PROBABILITY = 1e-6
EMPTY = -20.0  # logits of a mask that has no voxel


class Candidates(NamedTuple):
    """Classes and scores [batch, n], the surest first, and logits of masks [batch, n, *space]."""

    classes: torch.Tensor
    scores: torch.Tensor
    masks: torch.Tensor


def packed_candidates(found: Candidates, semantic: torch.Tensor) -> torch.Tensor:
    """As one tensor [batch, n + class, class + 1 + voxel], which any engine can give.

    Of each candidate it has the logarithms of how probable each class is, and none, then its mask,
    which is empty where the score is nothing: which of such candidates there are is open. Then
    come, in rows of their own, the logits of classes [batch, class, *space].
    """
    batch, classes = semantic.shape[:2]
    score = found.scores[..., None].clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    of_class = torch.arange(classes, device=score.device) == found.classes[..., None]
    probable = torch.cat((of_class * score, 1 - score), dim=2).clamp_min(LEAST_PROBABILITY)
    masks = found.masks.flatten(2)
    masks = torch.where(found.scores[..., None] > LEAST_PROBABILITY, masks, EMPTY)
    candidates = torch.cat((probable.log(), masks), dim=2)
    none = semantic.new_zeros((batch, classes, classes + 1))
    return torch.cat((candidates, torch.cat((none, semantic.flatten(2)), dim=2)), dim=1)


def filled(found: Candidates, count: int) -> Candidates:
    """The same with candidates of no score, and no mask, up to a number."""
    missing = count - found.scores.shape[1]
    if not missing:
        return found
    batch, size = found.scores.shape[0], found.masks.shape[2:]
    return Candidates(
        torch.cat((found.classes, found.classes.new_zeros((batch, missing))), dim=1),
        torch.cat((found.scores, found.scores.new_zeros((batch, missing))), dim=1),
        torch.cat((found.masks, found.masks.new_full((batch, missing, *size), EMPTY)), dim=1),
    )
