"""Every voxel told apart: into classes that exclude each other, or into regions that may overlap.

Objects that touch are told apart by a border, which is one of the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.planning.model_plan import SemanticPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.losses import Meaning, deep_supervision_loss
from autoseg.tasks.task import Merging, SeenBack, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer, classes_or_regions


@dataclass(frozen=True, slots=True)
class SemanticTask:
    """The answer of a plan, with the loss of a training."""

    answer: VoxelAnswer
    loss_plan: LossPlan
    has_ignored: bool = True
    merging: Merging = "dense"
    seen_back: SeenBack = flipped_back

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> torch.Tensor:
        return labels

    def loss(
        self, outputs: Sequence[torch.Tensor], targets: torch.Tensor, across: SumUp = alone
    ) -> torch.Tensor:
        meaning = Meaning(self.answer.plan.regions, self.has_ignored)
        return deep_supervision_loss(outputs, targets, self.loss_plan, meaning, across)

    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        return targets

    def scores(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return outputs[0]


def semantic_task(plan: SemanticPlan, loss: LossPlan, labels: LabelScheme) -> SemanticTask:
    answer = classes_or_regions(plan, labels)
    return SemanticTask(answer, loss, has_ignored=labels.ignore is not None)
