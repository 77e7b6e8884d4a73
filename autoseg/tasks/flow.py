"""Every voxel told apart into classes, and the way from it to the middle of its object.

Objects that touch are one in a map of classes; the ways to their middles part where they meet, by
which they are told apart once the whole scan is there, so that no seam between patches cuts or
doubles one (Cellpose: Stringer et al. 2021, doi:10.1038/s41592-020-01018-x).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.planning.model_plan import FlowPlan, SemanticPlan
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.directions import directions_in_objects
from autoseg.tasks.semantic import SemanticTask, semantic_task
from autoseg.tasks.task import Merging, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer

AXES = 3  # of ways, also in slices


@dataclass(frozen=True, slots=True)
class FlowTargets:
    """Class indices [batch, *space]; ways to the middle [batch, axis, *space], of as many axes as
    patches have; and where they are known [batch, *space]."""

    classes: torch.Tensor
    ways: torch.Tensor
    known: torch.Tensor


@dataclass(frozen=True, slots=True)
class FlowTask:
    """Classes as `semantic` has them, and ways as three further outputs."""

    plan: FlowPlan
    semantic: SemanticTask
    merging: Merging = "dense"

    @property
    def answer(self) -> VoxelAnswer:
        return self.semantic.answer

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> FlowTargets:
        """Ways are found after augmentation, which would turn them."""
        assert objects is not None, "prepared without objects"
        border = self.plan.border
        if border is not None:
            labels = torch.where(labels == border, border - 1, labels)
        ways, known = directions_in_objects(objects, self.plan.spacing_mm, self.plan.steps)
        return FlowTargets(labels, ways, (known | (objects == 0)) & (labels != IGNORED))

    def loss(
        self, outputs: Sequence[torch.Tensor], targets: FlowTargets, across: SumUp = alone
    ) -> torch.Tensor:
        """That of classes at every resolution, and at the highest the mean squared length by which
        ways are off, over all voxels, as that of classes is: else they are all that is learned."""
        classes = [output[:, : self.plan.classes] for output in outputs]
        given = outputs[0][:, self.plan.classes :].float()
        flat = AXES - targets.ways.shape[1]
        wanted = torch.cat((torch.zeros_like(given[:, :flat]), targets.ways), dim=1)
        off = (given - wanted).square().sum(1)
        sums = torch.stack(((off * targets.known).sum(), targets.known.sum().float()))
        total, count = across(sums)
        of_ways: torch.Tensor = total / count.clamp_min(1)
        return self.semantic.loss(classes, targets.classes, across) + self.plan.weight * of_ways

    def labels(self, targets: FlowTargets) -> torch.Tensor:
        return targets.classes

    def scores(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return outputs[0][:, : self.plan.classes]

    def seen_back(self, outputs: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Ways along mirrored axes lead the other way."""
        back = flipped_back(outputs, axes)
        for axis in axes:  # a copy, which may be changed
            back[:, self.plan.classes + AXES + axis - back.ndim].neg_()
        return back


def flow_task(plan: FlowPlan, loss: LossPlan, labels: LabelScheme) -> FlowTask:
    classes = SemanticPlan(classes=plan.classes)
    return FlowTask(plan, semantic_task(classes, loss, labels))
