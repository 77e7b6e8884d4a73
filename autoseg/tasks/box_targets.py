"""Which objects a patch holds, with the boxes around them, asking none but a CPU anything."""

from dataclasses import dataclass

import torch

from autoseg.networks.box_geometry import centres
from autoseg.planning.model_plan import BoxesPlan
from autoseg.tasks.mask_targets import UNKNOWN, MaskTargets, find_masks, of_things

NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class BoxTargets:
    """Numbered masks, and of each a box [batch, mask, 2 x axis] and its class [batch, mask],
    NO_CLASS where it is of no thing, or is none."""

    masks: MaskTargets
    boxes: torch.Tensor
    classes: torch.Tensor

    @property
    def there(self) -> torch.Tensor:
        """Which are objects [batch, mask]."""
        return self.classes != NO_CLASS

    def known_at(self, boxes: torch.Tensor) -> torch.Tensor:
        """Whether it is known what the middles [batch, box] of boxes [batch, box, 2 x axis] are."""
        return known_places(self.masks.masks, centres(boxes))


def known_places(masks: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Whether it is known [batch, n] of what mask places [batch, n, axis] are, in voxels from the
    corner of maps of masks' numbers [batch, *space]; those beyond a patch are taken for its nearest
    voxel."""
    index = torch.zeros_like(places[..., 0], dtype=torch.long)
    for place, size in zip(places.unbind(-1), masks.shape[1:], strict=True):
        index = index * size + place.long().clamp(0, size - 1)
    return masks.flatten(1).gather(1, index) != UNKNOWN


def find_boxes(labels: torch.Tensor, objects: torch.Tensor | None, plan: BoxesPlan) -> BoxTargets:
    """The objects of class indices [batch, *space], of which those of things are numbered; of an
    object that the patch cuts, the part in it."""
    masks = find_masks(labels, objects, plan)
    classes = torch.where(of_things(masks.classes, plan), masks.classes, NO_CLASS)
    return BoxTargets(masks, boxes_around(masks.masks, classes.shape[1]), classes)


def boxes_around(masks: torch.Tensor, count: int) -> torch.Tensor:
    """The boxes [batch, mask, 2 x axis] of masks 0 to `count` - 1 of a map [batch, *space]; the
    first voxel of what is not there."""
    numbers = torch.where(masks < 0, count, masks).flatten(1)
    lows, highs = [], []
    for axis, size in enumerate(masks.shape[1:], 1):
        shape = [1] * masks.ndim
        shape[axis] = size
        place = torch.arange(size, device=masks.device, dtype=torch.float32).view(shape)
        place = place.expand(masks.shape).flatten(1)
        empty = place.new_zeros((len(masks), count + 1))
        low = (empty + size).scatter_reduce(1, numbers, place, "amin")
        high = empty.scatter_reduce(1, numbers, place, "amax")
        lows.append(torch.where(low > high, 0, low))
        highs.append(high + 1)
    return torch.stack((*lows, *highs), dim=-1)[:, :count]
