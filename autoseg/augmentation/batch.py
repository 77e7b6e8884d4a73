"""What augmentation makes of samples."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """On the training device: image [batch, channel, z, y, x], class indices [batch, z, y, x], and
    maps [batch, z, y, x] of the network's other inputs, by their kind; and numbered objects, where
    the network learns of them."""

    image: torch.Tensor
    label: torch.Tensor
    maps: dict[str, torch.Tensor]
    case_ids: tuple[str, ...]
    objects: torch.Tensor | None = None

    def tensors(self) -> tuple[torch.Tensor, ...]:
        objects = () if self.objects is None else (self.objects,)
        return (self.image, self.label, *objects, *self.maps.values())

    def as_slices(self) -> "Batch":
        """The same without the depth of a single voxel, for networks in two dimensions."""
        maps = {kind: values.squeeze(1) for kind, values in self.maps.items()}
        objects = None if self.objects is None else self.objects.squeeze(1)
        return Batch(self.image.squeeze(2), self.label.squeeze(1), maps, self.case_ids, objects)
