"""Every voxel told apart into classes, and how deep it lies in its object.

Objects that touch are one in a map of classes; the depth has a valley between them, along which
they are parted once the whole scan is there, so that no seam between patches cuts or doubles one.
A voxel's distance to the background alone would do for round objects; that to the nearest other
object as well is learned for all (the deep watershed: Bai and Urtasun 2017, arXiv:1611.08303).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.planning.model_plan import DistancePlan, SemanticPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.depth import depth_in_objects
from autoseg.tasks.semantic import SemanticTask, semantic_task
from autoseg.tasks.task import Merging, SeenBack, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer


@dataclass(frozen=True, slots=True)
class DistanceTargets:
    """Class indices; depth in objects, from 0 to 1; and where it is known; all [batch, *space]."""

    classes: torch.Tensor
    depth: torch.Tensor
    known: torch.Tensor


@dataclass(frozen=True, slots=True)
class DistanceTask:
    """Classes as `semantic` has them, and the depth as a further output."""

    plan: DistancePlan
    semantic: SemanticTask
    merging: Merging = "dense"
    seen_back: SeenBack = flipped_back

    @property
    def answer(self) -> VoxelAnswer:
        return self.semantic.answer

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> DistanceTargets:
        """The depth is measured after augmentation, which would stretch it."""
        assert objects is not None, "prepared without objects"
        depth_mm, known = depth_in_objects(objects, self.plan.spacing_mm, self.plan.reach_mm)
        return DistanceTargets(labels, depth_mm / self.plan.reach_mm, known & (labels != IGNORED))

    def loss(
        self, outputs: Sequence[torch.Tensor], targets: DistanceTargets, across: SumUp = alone
    ) -> torch.Tensor:
        """That of classes at every resolution, and at the highest the mean smooth L1 of the depth
        over all voxels where it is known."""
        classes = [output[:, : self.plan.classes] for output in outputs]
        off = F.smooth_l1_loss(
            outputs[0][:, self.plan.classes].float(), targets.depth, reduction="none", beta=0.1
        )
        sums = torch.stack(((off * targets.known).sum(), targets.known.sum().float()))
        total, count = across(sums)
        of_depth: torch.Tensor = total / count.clamp_min(1)
        return self.semantic.loss(classes, targets.classes, across) + self.plan.weight * of_depth

    def labels(self, targets: DistanceTargets) -> torch.Tensor:
        return targets.classes

    def scores(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return outputs[0][:, : self.plan.classes]


def distance_task(plan: DistancePlan, loss: LossPlan, labels: LabelScheme) -> DistanceTask:
    classes = SemanticPlan(classes=plan.classes)
    return DistanceTask(plan, semantic_task(classes, loss, labels))
