"""A case on a plan's grid, as it is trained from and predicted."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Placement

Voxels = NDArray[np.unsignedinteger[Any]]  # [n, 3]


class VoxelList(Protocol):
    """Voxels [n, 3], in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A case on a plan's grid.

    `image` is [channel, z, y, x] float32; `label` holds class indices [z, y, x] or is None for a
    scan to predict; `outside_mask` [z, y, x] is true outside the body, None where it is not needed;
    `class_locations` gives sampled voxels [n, 3] of each class, or each region, that is present;
    `annotated_locations` of all that is annotated, None where everything is. `objects` numbers the
    objects of things [z, y, x], 0 elsewhere; None without things.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    outside_mask: NDArray[np.bool_] | None
    class_locations: dict[int, Voxels]
    annotated_locations: Voxels | None
    placement: Placement
    objects: NDArray[np.unsignedinteger[Any]] | None = None
