"""What a network's outputs mean: classes that exclude each other, or regions that may overlap.

Scores are [output, ...]; those of classes have the background first.
"""

import torch


def decide(scores: torch.Tensor, regions: bool) -> torch.Tensor:
    """Class indices [...], uint8: of the highest score, or 1 + that of the last region above 0."""
    if not regions:
        return scores.max(dim=0).indices.to(torch.uint8)
    painted = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    for index, region in enumerate(scores):
        painted[region > 0] = index + 1
    return painted


def probabilities(scores: torch.Tensor, regions: bool) -> torch.Tensor:
    """How probable each class, or each region, is."""
    return scores.sigmoid() if regions else scores.softmax(dim=0)


def scores_of(probability: torch.Tensor, regions: bool) -> torch.Tensor:
    """Scores that have these probabilities."""
    return probability.logit() if regions else probability.log()


def entropy(probability: torch.Tensor, regions: bool) -> torch.Tensor:
    """Shannon entropy in nats; of regions, the sum over them."""
    if regions:
        probability = torch.cat((probability, 1 - probability))
    each: torch.Tensor = torch.special.entr(probability)
    return each.sum(0)
