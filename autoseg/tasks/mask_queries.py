"""Masks that are queried for: each query finds an object, or all voxels of a class, or nothing.

In training masks are matched to queries. For a whole scan, what queries say of each voxel adds up
to scores of classes, which merge as any others do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks.blocks import resized
from autoseg.networks.mask_queries import QueryOutputs, class_scores
from autoseg.planning.model_plan import MaskQueriesPlan, SemanticPlan
from autoseg.planning.run_plan import LossPlan, MatchingPlan
from autoseg.tasks.losses import MATCHED
from autoseg.tasks.mask_losses import query_loss
from autoseg.tasks.mask_targets import MaskTargets, find_masks
from autoseg.tasks.task import Merging, SeenBack, SumUp, alone, flipped_back
from autoseg.tasks.voxel_answer import VoxelAnswer, classes_or_regions


@dataclass(frozen=True, slots=True)
class MaskQueriesTask:
    """Classes, found by queries."""

    plan: MaskQueriesPlan
    matching: MatchingPlan
    answer: VoxelAnswer
    seen_back: SeenBack = flipped_back

    @property
    def merging(self) -> Merging:
        """Without things there are no objects to join."""
        return "queries" if self.plan.things else "dense"

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> MaskTargets:
        """Without things objects are not looked at."""
        return find_masks(labels, objects, self.plan)

    def loss(
        self, outputs: Sequence[QueryOutputs], targets: MaskTargets, across: SumUp = alone
    ) -> torch.Tensor:
        """That of all layers. A device is waited for, once, while masks are matched."""
        return query_loss(outputs, targets, self.matching, across)

    def labels(self, targets: MaskTargets) -> torch.Tensor:
        return targets.labels

    def scores(self, outputs: Sequence[QueryOutputs]) -> torch.Tensor:
        scores = class_scores(outputs[0])
        size = [n * s for n, s in zip(scores.shape[2:], self.plan.mask_stride, strict=True)]
        return resized(scores, size)


def mask_queries_task(
    plan: MaskQueriesPlan, loss: LossPlan, labels: LabelScheme
) -> MaskQueriesTask:
    """The task of a plan. Raises AutosegError where its loss is one of voxels."""
    if loss.kind != MATCHED or loss.matching is None:
        raise AutosegError(
            f"The task mask_queries has a loss of its own, {MATCHED} with its `matching`, not "
            f"{loss.kind}. Change the rule that decides the loss."
        )
    answer = classes_or_regions(SemanticPlan(classes=plan.classes), labels)
    return MaskQueriesTask(plan, loss.matching, answer)
