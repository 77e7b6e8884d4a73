"""Where the objects of a patch are, on the device, asking none but a CPU anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.planning.model_plan import CandidatesPlan
from autoseg.tasks.box_targets import boxes_around, known_places
from autoseg.tasks.mask_targets import UNKNOWN, find_masks, of_things


@dataclass(frozen=True, slots=True)
class PlacedObjects:
    """Class indices [batch, *space], a border being a part of its object; the number of each
    voxel's mask [batch, *space], or less than 0; of each mask its class [batch, mask], 0 where it
    is no object, its voxels [batch, mask], the box around it [batch, mask, 2 x axis], and its
    centroid [batch, mask, axis], counted in voxels from the patch's corner."""

    labels: torch.Tensor
    masks: torch.Tensor
    classes: torch.Tensor
    voxels: torch.Tensor
    boxes: torch.Tensor
    centres: torch.Tensor

    def shares(self, numbers: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
        """How much of each voxel of coarser maps is of masks of numbers [batch, n]: [batch, n,
        voxel]."""
        parts = self._parts(stride)
        found = torch.zeros((), device=parts.device)
        for part in parts.unbind(2):
            found = found + (part[:, None] == numbers[..., None]).float()
        return found / parts.shape[2]

    def known(self, stride: Sequence[int]) -> torch.Tensor:
        """How much of each voxel of coarser maps is known [batch, 1, voxel]."""
        return (self._parts(stride) != UNKNOWN).float().mean(2)[:, None]

    def known_at(self, places: torch.Tensor) -> torch.Tensor:
        """Whether it is known [batch, n] of what mask places [n, axis] are, in voxels from the
        corner."""
        return known_places(self.masks, places.expand(len(self.masks), -1, -1))

    def _parts(self, stride: Sequence[int]) -> torch.Tensor:
        """The numbers of the voxels that each coarse one is made of [batch, voxel, part]."""
        sizes = [k for n, s in zip(self.masks.shape[1:], stride, strict=True) for k in (n // s, s)]
        dims = len(stride)
        split = self.masks.reshape(-1, *sizes)
        order = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2))
        return split.permute(order).flatten(1 + dims).flatten(1, dims)


def place_objects(
    labels: torch.Tensor, objects: torch.Tensor | None, plan: CandidatesPlan
) -> PlacedObjects:
    """The objects of things in a batch of labels and numbered objects [batch, *space]."""
    found = find_masks(labels, objects, plan)
    count, rows = found.classes.shape[1], found.masks.flatten(1)
    slot = torch.where(rows < 0, count, rows)  # a further one, of voxels that are of none
    empty = slot.new_zeros((len(slot), count + 1))
    voxels = empty.scatter_add(1, slot, torch.ones_like(slot))
    centres = []
    for axis, size in enumerate(labels.shape[1:]):
        shape = [1] * (labels.ndim - 1)
        shape[axis] = size
        place = torch.arange(size, device=labels.device).view(1, *shape)
        along = place.expand(labels.shape).flatten(1)
        centres.append(empty.scatter_add(1, slot, along) / voxels.clamp_min(1) + 0.5)
    return PlacedObjects(
        labels=found.labels,
        masks=found.masks,
        classes=torch.where(of_things(found.classes, plan), found.classes, 0),
        voxels=voxels[:, :count],
        boxes=boxes_around(found.masks, count),
        centres=torch.stack(centres, dim=2)[:, :count],
    )
