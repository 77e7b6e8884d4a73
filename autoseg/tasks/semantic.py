"""Every voxel told apart: into classes that exclude each other, or into regions that may overlap.

Scores of classes have the background first. Objects that touch are told apart by a border, which
is one of the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.planning.model_plan import SemanticPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.losses import Meaning, deep_supervision_loss, is_any_of
from autoseg.tasks.task import Merging, SumUp, alone


@dataclass(frozen=True, slots=True)
class SemanticTask:
    """The task of a plan, with the loss of a training, and names of what is scored."""

    plan: SemanticPlan
    loss_plan: LossPlan
    names: tuple[str, ...]
    has_ignored: bool = True
    merging: Merging = "dense"

    @property
    def class_outputs(self) -> int:
        return self.plan.outputs

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> torch.Tensor:
        return labels

    def loss(
        self, outputs: Sequence[torch.Tensor], targets: torch.Tensor, across: SumUp = alone
    ) -> torch.Tensor:
        meaning = Meaning(self.plan.regions, self.has_ignored)
        return deep_supervision_loss(outputs, targets, self.loss_plan, meaning, across)

    def truth(self, targets: torch.Tensor) -> torch.Tensor:
        if not self.plan.regions:
            return _indicators(targets, self.plan.classes)
        return torch.stack([is_any_of(targets, region) for region in self.plan.regions], dim=1)

    def decision(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.plan.regions:
            return outputs[0] > 0
        return _indicators(outputs[0].max(1).indices, self.plan.classes)

    def annotated(self, targets: torch.Tensor) -> torch.Tensor:
        return targets != IGNORED

    def seen_back(self, outputs: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return outputs.flip(tuple(axes)) if axes else outputs

    def decode(self, scores: torch.Tensor) -> torch.Tensor:
        """Of the highest score, or 1 + the index of the last region above 0."""
        if not self.plan.regions:
            return scores.max(dim=0).indices.to(torch.uint8)
        painted = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
        for index, region in enumerate(scores):
            painted[region > 0] = index + 1
        return painted

    def votes(self, scores: torch.Tensor) -> torch.Tensor:
        return scores > 0 if self.plan.regions else scores.max(1, keepdim=True).indices

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.sigmoid() if self.plan.regions else scores.softmax(dim=0)

    def scores_of(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.logit() if self.plan.regions else probabilities.log()

    def entropy(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Of regions, the sum over them."""
        if self.plan.regions:
            probabilities = torch.cat((probabilities, 1 - probabilities))
        each: torch.Tensor = torch.special.entr(probabilities)
        return each.sum(0)


def semantic_task(plan: SemanticPlan, loss: LossPlan, labels: LabelScheme) -> SemanticTask:
    names = tuple(region.name for region in labels.regions) or labels.names[1:]
    return SemanticTask(plan, loss, names, has_ignored=labels.ignore is not None)


def _indicators(classes: torch.Tensor, class_count: int) -> torch.Tensor:
    """A map for each class but the background."""
    return torch.stack([classes == index for index in range(1, class_count)], dim=1)
