"""Objects found in one stage, as SOLOv2 and YOLACT do, beside classes of all voxels.

In training each network loses what its paper says, and on classes what `semantic` does. For a whole
scan scores of classes merge as any others do, and candidates are joined as what queries find.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.networks.blocks import resized
from autoseg.planning.model_plan import CandidatesPlan, SemanticPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.placed_objects import PlacedObjects, place_objects
from autoseg.tasks.semantic import SemanticTask, semantic_task
from autoseg.tasks.solo_loss import solo_loss
from autoseg.tasks.task import Merging, SeenBack, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer
from autoseg.tasks.yolact_loss import yolact_loss

ObjectLoss = Callable[[Any, PlacedObjects, CandidatesPlan, SumUp], torch.Tensor]
LOSSES: dict[str, ObjectLoss] = {"solov2": solo_loss, "yolact": yolact_loss}


@dataclass(frozen=True, slots=True)
class CandidatesTask:
    """Classes as `semantic` has them, and objects by candidates."""

    plan: CandidatesPlan
    object_loss: ObjectLoss
    semantic: SemanticTask
    seen_back: SeenBack = flipped_back

    @property
    def merging(self) -> Merging:
        """Without things there are no objects to join."""
        return "queries" if self.plan.things else "dense"

    @property
    def answer(self) -> VoxelAnswer:
        return self.semantic.answer

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> PlacedObjects:
        """Without things objects are not looked at."""
        return place_objects(labels, objects, self.plan)

    def loss(
        self, outputs: Sequence[Any], targets: PlacedObjects, across: SumUp = alone
    ) -> torch.Tensor:
        """That of objects, and of classes at the patch's resolution."""
        (found,) = outputs
        scores = resized(found.semantic, targets.labels.shape[1:])
        of_classes = self.semantic.loss([scores], targets.labels, across)
        return of_classes + self.object_loss(found, targets, self.plan, across)

    def labels(self, targets: PlacedObjects) -> torch.Tensor:
        return targets.labels

    def scores(self, outputs: Sequence[Any]) -> torch.Tensor:
        scores = outputs[0].semantic
        size = [n * s for n, s in zip(scores.shape[2:], self.plan.mask_stride, strict=True)]
        return resized(scores, size)


def candidates_task(plan: CandidatesPlan, loss: LossPlan, labels: LabelScheme) -> CandidatesTask:
    classes = SemanticPlan(classes=plan.classes)
    return CandidatesTask(plan, LOSSES[plan.kind], semantic_task(classes, loss, labels))
