"""What travels through augmentation: a sample's parameters, its voxels, and the finished batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MaskAugmentation:
    """What happens to the mask that the second stage of a cascade sees.

    `radius_vox` is 0 where masks are not grown, shrunk, opened or closed; `seed` is of the choices
    that depend on the classes that are there.
    """

    radius_vox: int
    loses_component: bool
    largest_lost_vox: int
    seed: int


@dataclass(frozen=True, slots=True)
class SampleAugmentation:
    """What happens to one sample; parameters are [channel] unless said otherwise.

    `matrix` [3, 3] leads from an output voxel's offset from the patch centre to the source's; None
    is the identity. `displacement_vox` [axis, *control points] is added to where voxels are read;
    it comes with a matrix. Multipliers and zoom are neutral at 1, noise and blur at 0.
    """

    matrix: FloatArray | None
    displacement_vox: FloatArray | None
    mirrored_axes: tuple[int, ...]
    noise_std: float
    noise_seed: int
    blur_sigma_vox: FloatArray  # [channel, axis]
    brightness: FloatArray
    contrast: FloatArray
    low_resolution: FloatArray
    inverted_gamma: FloatArray
    gamma: FloatArray
    mask: MaskAugmentation


@dataclass(frozen=True, slots=True)
class RawSample:
    """A box of a prepared case, large enough to cut one transformed patch from.

    `image` [channel, z, y, x], the others [z, y, x]: `label`, `outside`, and `maps` of the other
    inputs of the network, by their kind. `centre_vox` is the patch's centre in the box's voxels.
    """

    case_id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    outside: NDArray[np.bool_] | None
    maps: Mapping[str, NDArray[np.uint8]]
    centre_vox: FloatArray
    augmentation: SampleAugmentation

    @property
    def size_bytes(self) -> int:
        """What its voxels take in memory."""
        arrays = (self.image, self.label, self.outside, *self.maps.values())
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, slots=True)
class Batch:
    """On the training device: image [batch, channel, z, y, x], class indices [batch, z, y, x], and
    maps [batch, z, y, x] of the network's other inputs, by their kind."""

    image: torch.Tensor
    label: torch.Tensor
    maps: dict[str, torch.Tensor]
    case_ids: tuple[str, ...]

    def as_slices(self) -> "Batch":
        """The same without the depth of a single voxel, for networks in two dimensions."""
        maps = {kind: values.squeeze(1) for kind, values in self.maps.items()}
        return Batch(self.image.squeeze(2), self.label.squeeze(1), maps, self.case_ids)
