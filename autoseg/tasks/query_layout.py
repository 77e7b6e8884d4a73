"""What queries find in patches, packed into one tensor as engines give it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.geometry import Shape3
from autoseg.networks.mask_queries import QueryOutputs
from autoseg.planning.model_plan import BoxesPlan, MaskQueriesPlan, ModelPlan, ObjectsPlan


@dataclass(frozen=True, slots=True)
class QueryLayout:
    """How the packed answers of queries are laid out [..., query, class + 1 + voxel]; a single
    slice is a patch of that depth."""

    plan: ObjectsPlan
    patch_vox: Shape3

    @classmethod
    def of(cls, model: ModelPlan) -> "QueryLayout | None":
        """That of a model whose queries, or boxes, are objects, to be joined beside scores."""
        if isinstance(model.task, MaskQueriesPlan | BoxesPlan) and model.task.things:
            return cls(model.task, model.patch_box_vox)
        return None

    @property
    def mask_vox(self) -> Shape3:
        strides = (1,) * (3 - len(self.plan.mask_stride)) + self.plan.mask_stride
        z, y, x = (n // s for n, s in zip(self.patch_vox, strides, strict=True))
        return z, y, x

    def unpacked(self, packed: torch.Tensor) -> QueryOutputs:
        """Of looks [n, query, class + 1 + voxel]; masks are [n, query, z, y, x]."""
        first = self.plan.classes + 1
        masks = packed[..., first:].reshape(*packed.shape[:-1], *self.mask_vox)
        return QueryOutputs(packed[..., :first], masks)

    def flipped(self, packed: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """The same seen in a mirror along axes of patches [n, channel, z, y, x]."""
        if not axes:
            return packed
        found = self.unpacked(packed)
        return torch.cat((found.classes, found.masks.flip(tuple(axes)).flatten(2)), dim=2)
