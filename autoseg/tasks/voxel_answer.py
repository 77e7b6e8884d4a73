"""What scores of voxels say: classes that exclude each other, or regions that may overlap.

Scores of classes have the background first. Every task answers so of each voxel, whatever else it
finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.planning.model_plan import SemanticPlan


@dataclass(frozen=True, slots=True)
class VoxelAnswer:
    """The classes or regions of a plan, and the names of those that are scored."""

    plan: SemanticPlan
    names: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """How many scores a voxel has."""
        return self.plan.outputs

    def truth(self, labels: torch.Tensor) -> torch.Tensor:
        """Which voxels have which name [batch, name, *space], of class indices [batch, *space]."""
        if not self.plan.regions:
            return _indicators(labels, self.plan.classes)
        return torch.stack([is_any_of(labels, region) for region in self.plan.regions], dim=1)

    def annotated(self, labels: torch.Tensor) -> torch.Tensor:
        """Which voxels somebody annotated [batch, *space]."""
        return labels != IGNORED

    def decision(self, scores: torch.Tensor) -> torch.Tensor:
        """Which voxels are given which name [batch, name, *space], of [batch, output, *space]."""
        if self.plan.regions:
            return scores > 0
        return _indicators(scores.max(1).indices, self.plan.classes)

    def decode(self, scores: torch.Tensor) -> torch.Tensor:
        """Class indices [...], uint8, as the label scheme decodes them, of scores [output, ...]:
        that of the highest, or 1 + the index of the last region above 0."""
        if not self.plan.regions:
            return scores.max(dim=0).indices.to(torch.uint8)
        painted = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
        for index, region in enumerate(scores):
            painted[region > 0] = index + 1
        return painted

    def votes(self, scores: torch.Tensor) -> torch.Tensor:
        """Decisions [batch, vote, *space] of single models, to be compared for disagreement."""
        return scores > 0 if self.plan.regions else scores.max(1, keepdim=True).indices

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """How probable each output is [output, ...]."""
        return scores.sigmoid() if self.plan.regions else scores.softmax(dim=0)

    def scores_of(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Scores that have these probabilities."""
        return probabilities.logit() if self.plan.regions else probabilities.log()

    def entropy(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Shannon entropy [...] in nats; of regions, the sum over them."""
        if self.plan.regions:
            probabilities = torch.cat((probabilities, 1 - probabilities))
        each: torch.Tensor = torch.special.entr(probabilities)
        return each.sum(0)


def classes_or_regions(plan: SemanticPlan, labels: LabelScheme) -> VoxelAnswer:
    """The answer of a plan, in the words of a label scheme."""
    return VoxelAnswer(plan, tuple(region.name for region in labels.regions) or labels.names[1:])


def is_any_of(target: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Where class indices are one of some."""
    # Class by class, because a list of classes would have to be sent to a GPU first.
    return reduce(torch.logical_or, (target == index for index in classes))


def _indicators(classes: torch.Tensor, class_count: int) -> torch.Tensor:
    """A map for each class but the background."""
    return torch.stack([classes == index for index in range(1, class_count)], dim=1)
