"""Objects that each have a box, a class and a mask; what else there is, by a panoptic branch.

For a whole scan, detections add up to scores of classes, and are joined as what queries find.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks.blocks import resized
from autoseg.networks.mask_queries import class_scores
from autoseg.networks.mask_rcnn import BoxOutputs
from autoseg.planning.model_plan import BoxesPlan, SemanticPlan
from autoseg.planning.run_plan import BoxLossPlan, LossPlan
from autoseg.tasks.box_losses import box_losses
from autoseg.tasks.box_targets import BoxTargets, find_boxes
from autoseg.tasks.losses import FOUND_BOXES
from autoseg.tasks.semantic import SemanticTask, semantic_task
from autoseg.tasks.task import Merging, SeenBack, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer

DENSE = "ce_dice"  # the loss of a panoptic branch


@dataclass(frozen=True, slots=True)
class BoxesTask:
    """Classes as `semantic` has them, found as objects."""

    plan: BoxesPlan
    losses: BoxLossPlan
    semantic: SemanticTask
    merging: Merging = "queries"
    seen_back: SeenBack = flipped_back

    @property
    def answer(self) -> VoxelAnswer:
        return self.semantic.answer

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> BoxTargets:
        return find_boxes(labels, objects, self.plan)

    def loss(
        self, outputs: Sequence[BoxOutputs], targets: BoxTargets, across: SumUp = alone
    ) -> torch.Tensor:
        (found,) = outputs
        total = box_losses(found, targets, self.losses, across).total(self.losses)
        labels = targets.masks.labels
        for dense in found.dense:
            logits = resized(dense, labels.shape[1:])
            total = total + self.losses.dense_weight * self.semantic.loss([logits], labels, across)
        return total

    def labels(self, targets: BoxTargets) -> torch.Tensor:
        return targets.masks.labels

    def scores(self, outputs: Sequence[BoxOutputs]) -> torch.Tensor:
        (found,) = outputs[0].found
        scores = class_scores(found)
        size = [n * s for n, s in zip(scores.shape[2:], self.plan.mask_stride, strict=True)]
        return resized(scores, size)


def boxes_task(plan: BoxesPlan, loss: LossPlan, labels: LabelScheme) -> BoxesTask:
    """The task of a plan. Raises AutosegError where its loss is one of voxels."""
    if loss.kind != FOUND_BOXES or loss.boxes is None:
        raise AutosegError(
            f"The task boxes has a loss of its own, {FOUND_BOXES} with its `boxes`, not "
            f"{loss.kind}. Change the rule that decides the loss."
        )
    dense = loss.model_copy(update={"kind": DENSE})
    classes = SemanticPlan(classes=plan.classes)
    return BoxesTask(plan, loss.boxes, semantic_task(classes, dense, labels))
