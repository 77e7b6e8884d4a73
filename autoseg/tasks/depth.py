"""How deep voxels lie in their objects, on the device, without asking it anything."""

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F


def depth_in_objects(
    objects: torch.Tensor, spacing_mm: Sequence[float], reach_mm: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """From every voxel of an object to the centre of the nearest voxel that is not of it, in mm and
    `reach_mm` at most, 0 outside objects; and where that is known, for beyond the patch nobody
    knows: both [batch, *space] of numbered objects [batch, *space], 0 where there is none.

    Exact, by one axis after the other (Felzenszwalb and Huttenlocher 2012): the nearest other voxel
    in a row is the first of another number, or, in a row beside, that row's own nearest.
    """
    reach2 = float(reach_mm) ** 2
    depth2 = torch.full(objects.shape, reach2, device=objects.device)
    edge_mm = torch.full_like(depth2, float(reach_mm))
    for axis, mm in enumerate(spacing_mm, 1):
        size = objects.shape[axis]
        steps = min(ceil(reach_mm / mm), size - 1)
        depth2 = _along(objects, depth2, axis, (steps, float(mm)))
        place = torch.arange(size, device=objects.device, dtype=depth2.dtype)
        to_edge = (torch.minimum(place, size - 1 - place) + 1) * mm
        shape = [1] * objects.ndim
        shape[axis] = size
        if size > 1:
            edge_mm = torch.minimum(edge_mm, to_edge.view(shape))
    depth_mm = depth2.sqrt()
    known = (depth_mm <= edge_mm) | (objects == 0)
    return depth_mm * (objects != 0), known


def _along(
    objects: torch.Tensor, depth2: torch.Tensor, axis: int, steps_mm: tuple[int, float]
) -> torch.Tensor:
    """Squared distances with what voxels up to so many steps away along an axis add to them."""
    steps, mm = steps_mm
    size = objects.shape[axis]
    least = depth2
    for step in range(1, steps + 1):
        far = (step * mm) ** 2
        kept = size - step
        for here, there in ((0, step), (step, 0)):
            own, other = objects.narrow(axis, here, kept), objects.narrow(axis, there, kept)
            offered = torch.where(own == other, depth2.narrow(axis, there, kept), 0.0) + far
            least = torch.minimum(least, _padded(offered, axis, (here, size - kept - here)))
    return least


def _padded(values: torch.Tensor, axis: int, around: tuple[int, int]) -> torch.Tensor:
    """Values with endless distance before and after them along an axis."""
    pads = [0, 0] * (values.ndim - 1 - axis) + list(around)
    return F.pad(values, pads, value=float("inf"))
