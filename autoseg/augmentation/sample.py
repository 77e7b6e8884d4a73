"""What travels to augmentation: a sample's parameters, and its voxels. Known without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
LABEL = "label"  # beside the kinds of maps


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
    `objects` [z, y, x] are numbered, where the network learns of them. `classes` are those that
    label and maps have, where they were looked for, by LABEL or kind.
    """

    case_id: str
    image: NDArray[np.floating[Any]]
    label: NDArray[np.uint8]
    outside: NDArray[np.bool_] | None
    maps: Mapping[str, NDArray[np.uint8]]
    centre_vox: FloatArray
    augmentation: SampleAugmentation
    classes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    objects: NDArray[np.int32] | None = None

    def class_map(self, kind: str) -> NDArray[np.uint8]:
        """The label, or a map of another input."""
        return self.label if kind == LABEL else self.maps[kind]

    def classes_of(self, kind: str) -> NDArray[np.uint8]:
        """Which classes a map has."""
        if kind in self.classes:
            return self.classes[kind]
        found: NDArray[np.uint8] = fastremap.unique(self.class_map(kind))
        return found

    @property
    def size_bytes(self) -> int:
        """What its voxels take in memory."""
        arrays = (self.image, self.label, self.outside, self.objects, *self.maps.values())
        return sum(array.nbytes for array in arrays if array is not None)
