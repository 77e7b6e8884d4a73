"""What augmentation makes of samples."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """On the training device: image [batch, channel, z, y, x], class indices [batch, z, y, x], and
    maps [batch, z, y, x] of the network's other inputs, by their kind."""

    image: torch.Tensor
    label: torch.Tensor
    maps: dict[str, torch.Tensor]
    case_ids: tuple[str, ...]

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.image, self.label, *self.maps.values())

    def as_slices(self) -> "Batch":
        """The same without the depth of a single voxel, for networks in two dimensions."""
        maps = {kind: values.squeeze(1) for kind, values in self.maps.items()}
        return Batch(self.image.squeeze(2), self.label.squeeze(1), maps, self.case_ids)
