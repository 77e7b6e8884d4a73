"""What queries or candidates find in patches, packed into one tensor as engines give it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from autoseg.geometry import Shape3
from autoseg.networks.mask_queries import QueryOutputs, class_scores
from autoseg.planning.model_plan import CandidatesPlan, ModelPlan, ObjectsPlan


@dataclass(frozen=True, slots=True)
class QueryLayout:
    """How packed answers are laid out [..., query, class + 1 + voxel]; a single slice is a patch of
    that depth. After candidates, which are of things alone, come rows of the logits of classes."""

    plan: ObjectsPlan
    patch_vox: Shape3

    @classmethod
    def of(cls, model: ModelPlan) -> "QueryLayout | None":
        """That of a model whose queries, or boxes, find objects, to be joined beside scores."""
        task = model.task
        if isinstance(task, ObjectsPlan) and task.things:
            return cls(task, model.patch_box_vox)
        return None

    @property
    def mask_vox(self) -> Shape3:
        strides = (1,) * (3 - len(self.plan.mask_stride)) + self.plan.mask_stride
        z, y, x = (n // s for n, s in zip(self.patch_vox, strides, strict=True))
        return z, y, x

    @property
    def size(self) -> int:
        """How many numbers one look at a patch gives at the most."""
        beside = self.plan.classes if isinstance(self.plan, CandidatesPlan) else 0
        return (self.plan.queries + beside) * (self.plan.classes + 1 + prod(self.mask_vox))

    def unpacked(self, packed: torch.Tensor) -> QueryOutputs:
        """Of looks [n, query, class + 1 + voxel]; masks are [n, query, z, y, x]."""
        found = packed[:, : self.plan.queries]
        return QueryOutputs(found[..., : self.plan.classes + 1], self._maps(found))

    def scores(self, packed: torch.Tensor) -> torch.Tensor:
        """Scores of classes [n, class, z, y, x] at the masks' resolution: those that queries add up
        to, or that were given beside candidates."""
        if isinstance(self.plan, CandidatesPlan):
            return self._maps(packed[:, self.plan.queries :])
        return class_scores(self.unpacked(packed))

    def flipped(self, packed: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """The same seen in a mirror along axes of patches [n, channel, z, y, x]."""
        if not axes:
            return packed
        maps = self._maps(packed).flip(tuple(axes)).flatten(2)
        return torch.cat((packed[..., : self.plan.classes + 1], maps), dim=2)

    def _maps(self, packed: torch.Tensor) -> torch.Tensor:
        maps = packed[..., self.plan.classes + 1 :]
        return maps.reshape(*packed.shape[:-1], *self.mask_vox)
