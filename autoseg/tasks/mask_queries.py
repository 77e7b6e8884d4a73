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
from autoseg.tasks.semantic import SemanticTask, semantic_task
from autoseg.tasks.task import Merging, SumUp, alone


@dataclass(frozen=True, slots=True)
class MaskQueriesTask:
    """Classes as `semantic` has them, found by queries."""

    plan: MaskQueriesPlan
    matching: MatchingPlan
    semantic: SemanticTask

    @property
    def merging(self) -> Merging:
        """Without things there are no objects to join."""
        return "queries" if self.plan.things else "dense"

    @property
    def class_outputs(self) -> int:
        return self.plan.classes

    @property
    def names(self) -> tuple[str, ...]:
        return self.semantic.names

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> MaskTargets:
        """Without things objects are not looked at."""
        return find_masks(labels, objects, self.plan)

    def loss(
        self, outputs: Sequence[QueryOutputs], targets: MaskTargets, across: SumUp = alone
    ) -> torch.Tensor:
        """That of all layers. A device is waited for, once, while masks are matched."""
        return query_loss(outputs, targets, self.matching, across)

    def truth(self, targets: MaskTargets) -> torch.Tensor:
        return self.semantic.truth(targets.labels)

    def decision(self, outputs: Sequence[QueryOutputs]) -> torch.Tensor:
        scores = class_scores(outputs[0])
        size = [n * s for n, s in zip(scores.shape[2:], self.plan.mask_stride, strict=True)]
        return self.semantic.decision([resized(scores, size)])

    def annotated(self, targets: MaskTargets) -> torch.Tensor:
        return self.semantic.annotated(targets.labels)

    def seen_back(self, outputs: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return self.semantic.seen_back(outputs, axes)

    def decode(self, scores: torch.Tensor) -> torch.Tensor:
        return self.semantic.decode(scores)

    def votes(self, scores: torch.Tensor) -> torch.Tensor:
        return self.semantic.votes(scores)

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        return self.semantic.probabilities(scores)

    def scores_of(self, probabilities: torch.Tensor) -> torch.Tensor:
        return self.semantic.scores_of(probabilities)

    def entropy(self, probabilities: torch.Tensor) -> torch.Tensor:
        return self.semantic.entropy(probabilities)


def mask_queries_task(
    plan: MaskQueriesPlan, loss: LossPlan, labels: LabelScheme
) -> MaskQueriesTask:
    """The task of a plan. Raises AutosegError where its loss is one of voxels."""
    if loss.kind != MATCHED or loss.matching is None:
        raise AutosegError(
            f"The task mask_queries has a loss of its own, {MATCHED} with its `matching`, not "
            f"{loss.kind}. Change the rule that decides the loss."
        )
    classes = SemanticPlan(classes=plan.classes)
    return MaskQueriesTask(plan, loss.matching, semantic_task(classes, loss, labels))
