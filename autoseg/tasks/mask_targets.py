"""Which masks a patch holds, and what they are at any place in it, on the device; none but a CPU is
asked anything."""

from dataclasses import dataclass

import torch

from autoseg.dataset.labels import IGNORED
from autoseg.networks.deformable import corners
from autoseg.planning.model_plan import ObjectsPlan
from autoseg.tasks.numbering import MOST_OBJECTS, ranks_of

# Of voxels: nobody annotated them, or numbered the thing that they are of; their mask is one of too
# many.
UNKNOWN, NONE = -1, -2
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class MaskTargets:
    """Class indices [batch, *space]; the number of each voxel's mask [batch, *space], or UNKNOWN,
    or NONE; and the class of each mask [batch, mask], the last ones -1 where a patch has fewer. On
    a CPU there are as many as a patch has at the most, elsewhere, where asking takes time, as many
    as the plan has room for."""

    labels: torch.Tensor
    masks: torch.Tensor
    classes: torch.Tensor

    @property
    def count(self) -> torch.Tensor:
        """How many masks there are in all."""
        return (self.classes >= 0).sum()


def find_masks(
    labels: torch.Tensor, objects: torch.Tensor | None, plan: ObjectsPlan
) -> MaskTargets:
    """The masks of a batch: objects of things, of the class that most of their voxels have, and all
    voxels of every other class; of no mask, and unknown, are voxels of things that have no number.
    The largest are numbered first; there are no more than queries."""
    if plan.border is not None:
        labels = torch.where(labels == plan.border, plan.border - 1, labels)
    classes = labels.flatten(1).long()  # [batch, voxel]
    keys, known = _keys(classes, objects, plan)
    classes = classes * known
    ranks = ranks_of(keys)  # [batch, voxel]
    sizes = _voxels_by_class(ranks, classes, known, plan.classes)  # [batch, rank, class]
    voxels, largest = sizes.sum(2).topk(plan.queries, dim=1)
    used = _used(voxels)
    voxels, largest = voxels[:, :used], largest[:, :used]
    slots = torch.full_like(sizes[:, :, 0], NONE)
    numbers = torch.arange(largest.shape[1], device=labels.device).expand_as(largest)
    slots = slots.scatter(1, largest, numbers)
    masks = torch.where(known, slots.gather(1, ranks), UNKNOWN).view(labels.shape)
    of_class = sizes.argmax(2).gather(1, largest)
    return MaskTargets(labels, masks, torch.where(voxels > 0, of_class, -1))


def _used(voxels: torch.Tensor) -> int:
    """How many masks, the largest first [batch, mask], a patch has at the most, where asking costs
    nothing: there is room for many more."""
    return max(1, int((voxels > 0).sum(1).max())) if voxels.is_cpu else voxels.shape[1]


def _keys(
    classes: torch.Tensor, objects: torch.Tensor | None, plan: ObjectsPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """A number for each voxel that only voxels of its mask share, and whether its mask is known,
    both [batch, voxel]; those that are not known share that of the background."""
    known = classes != IGNORED
    if objects is None or not plan.things:
        return classes * known, known
    numbers, counted = objects.flatten(1).long(), of_things(classes, plan)
    known &= ~counted | (numbers > 0)
    return torch.where(counted, numbers + plan.classes, classes) * known, known


def of_things(classes: torch.Tensor, plan: ObjectsPlan) -> torch.Tensor:
    """Which classes are those of things."""
    found = torch.zeros_like(classes, dtype=torch.bool)
    for index in plan.things:
        found |= classes == index
    return found


def _voxels_by_class(
    ranks: torch.Tensor, classes: torch.Tensor, known: torch.Tensor, class_count: int
) -> torch.Tensor:
    """How many annotated voxels each mask has of each class [batch, rank, class]."""
    counts = ranks.new_zeros((len(ranks), MOST_OBJECTS * class_count))
    counts.scatter_add_(1, ranks * class_count + classes, known.long())
    return counts.view(len(ranks), MOST_OBJECTS, class_count)


@dataclass(frozen=True, slots=True)
class Corners:
    """Masks' numbers of the voxels around places [n, place, corner], and the weights that linear
    interpolation gives them, 0 beyond the patch."""

    masks: torch.Tensor
    weights: torch.Tensor

    def known(self) -> torch.Tensor:
        """The annotated share of what a patch holds of each place [n, place]."""
        known = (self.weights * (self.masks != UNKNOWN)).sum(-1)
        return known / self.weights.sum(-1).clamp_min(LEAST_WEIGHT)

    def of(self, own: torch.Tensor) -> torch.Tensor:
        """How far each place is in the mask of a number [n]: [n, place]."""
        return (self.weights * (self.masks == own[:, None, None])).sum(-1)

    def of_all(self, count: int) -> torch.Tensor:
        """The same for masks 0 to `count` - 1: [n, mask, place]."""
        found = self.weights.new_zeros((len(self.masks), count + 1, self.masks.shape[1]))
        numbers = torch.where(self.masks < 0, count, self.masks)
        found.scatter_add_(1, numbers.transpose(1, 2), self.weights.transpose(1, 2))
        return found[:, :count]


def corners_at(masks: torch.Tensor, places: torch.Tensor, samples: torch.Tensor) -> Corners:
    """What lies around places [n, place, axis], along (x, y) or (x, y, z), in the maps of masks
    [batch, *space] that `samples` [n] name; as `sampled_at` interpolates."""
    first = samples[:, None] * masks[0].numel()
    around = list(corners(masks.shape[1:], places))
    found = torch.stack([masks.flatten()[first + index] for index, _ in around], dim=-1)
    return Corners(found, torch.stack([weight for _, weight in around], dim=-1))
