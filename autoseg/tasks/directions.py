"""From voxels to the middle of their objects, on the device, without asking it anything.

Heat that starts at a voxel near an object's centroid and is lost at its rim shows the way: its
gradient leads there within the object, however bent that is (Cellpose: Stringer et al. 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from autoseg.tasks.numbering import MOST_OBJECTS, ranks_of

SHARE = 1 / 3  # of a voxel's heat that goes each way along the finest axis in a step
FAINTEST = 1e-37  # single precision's end
COOLING_STEPS = 8  # after which it is warm inside, where a middle may lie
SHORTEST = 1e-6
WARM = 0.8  # of an object's warmest voxel


def directions_in_objects(
    objects: torch.Tensor, spacing_mm: Sequence[float], steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The unit vector in mm [batch, axis, *space] that leads from each voxel of an object towards
    its middle, 0 in the middle and outside objects; and where it is known [batch, *space]: where
    heat came in so many steps, of objects that the patch does not cut.

    Objects are numbered [batch, *space], 0 where there is none.
    """
    is_object = objects != 0
    ranks, metal = ranks_of(objects.flatten(1)), Metal.of(objects, spacing_mm)
    warmth = is_object.float()
    for _ in range(COOLING_STEPS):
        warmth = metal.spread(warmth)
    middle = middles(warmth, ranks, spacing_mm) & is_object
    heat = source = middle.float()
    for _ in range(steps):
        heat = metal.spread(heat) + source
    ways = metal.slopes(heat.clamp_min(FAINTEST).log())
    length = ways.norm(dim=1, keepdim=True)
    reached = (heat > FAINTEST) & is_object
    leads = (reached & ~middle)[:, None]
    ways = torch.where(leads, ways / length.clamp_min(SHORTEST), 0.0)
    return ways, reached & ~_cut(objects, ranks)


@dataclass(frozen=True, slots=True)
class Metal:
    """Objects that lead heat within themselves: whether a voxel and the next one along each axis
    are of one object, as 1 or 0."""

    same: tuple[torch.Tensor, ...]
    spacing_mm: Sequence[float]

    @classmethod
    def of(cls, objects: torch.Tensor, spacing_mm: Sequence[float]) -> "Metal":
        same = tuple(_same(objects, axis) for axis in range(1, objects.ndim))
        return cls(same, spacing_mm)

    def spread(self, heat: torch.Tensor) -> torch.Tensor:
        """A step of heat [batch, *space] along one axis after the other; what leaves an object is
        lost."""
        finest = min(self.spacing_mm)
        for axis, (same, mm) in enumerate(zip(self.same, self.spacing_mm, strict=True), 1):
            share, kept = SHARE * (finest / mm) ** 2, same.shape[axis]
            if not kept:  # a single slice loses nothing across it
                continue
            spread = heat * (1 - 2 * share)
            spread.narrow(axis, 0, kept).add_(heat.narrow(axis, 1, kept) * same, alpha=share)
            spread.narrow(axis, 1, kept).add_(heat.narrow(axis, 0, kept) * same, alpha=share)
            heat = spread
        return heat

    def slopes(self, values: torch.Tensor) -> torch.Tensor:
        """By how much they rise in a mm along each axis [batch, axis, *space]: the mean of the
        differences to those of two neighbours that are of a voxel's object."""
        along = []
        for axis, (same, mm) in enumerate(zip(self.same, self.spacing_mm, strict=True), 1):
            kept, rise = same.shape[axis], values.diff(dim=axis) * same
            total, count = torch.zeros_like(values), torch.zeros_like(values)
            for start in (0, 1):
                total.narrow(axis, start, kept).add_(rise)
                count.narrow(axis, start, kept).add_(same)
            along.append(total / count.clamp_min(1) / mm)
        return torch.stack(along, dim=1)


def middles(warmth: torch.Tensor, ranks: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Where the middles of objects are [batch, *space]: of the voxels well inside, nearly as warm
    as the warmest, that which is nearest to the centroid in mm, or the first of several.

    Of a bent object the voxel nearest to the centroid would lie at its rim. `ranks` of objects are
    [batch, voxel], `warmth` is 0 outside them [batch, *space].
    """
    places = torch.meshgrid(
        *(torch.arange(n, device=ranks.device) for n in warmth.shape[1:]), indexing="ij"
    )
    empty = ranks.new_zeros((len(ranks), MOST_OBJECTS))
    counts = empty.scatter_add(1, ranks, torch.ones_like(ranks)).clamp_min(1)
    off = torch.zeros(ranks.shape, device=ranks.device)
    for place, mm in zip(places, spacing_mm, strict=True):
        along = place.flatten().expand_as(ranks)
        centre = empty.scatter_add(1, ranks, along) / counts
        off = off + ((along - centre.gather(1, ranks)) * mm) ** 2
    cold = -warmth.flatten(1)
    off = torch.where(cold <= WARM * _least(cold, ranks), off, torch.inf)
    nearest = off == _least(off, ranks)
    index = torch.arange(ranks.shape[1], device=ranks.device).expand_as(ranks)
    first = _least(torch.where(nearest, index, ranks.shape[1]), ranks)
    return (index == first).view(warmth.shape)


def _least(values: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """At each voxel the least value of its object [batch, voxel]."""
    shape = (len(ranks), MOST_OBJECTS)
    found = values.new_zeros(shape).scatter_reduce(1, ranks, values, "amin", include_self=False)
    return found.gather(1, ranks)


def _cut(objects: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """Which voxels are of objects that reach the patch's border, beyond which they may go on."""
    inner = torch.ones(objects.shape, dtype=ranks.dtype, device=objects.device)
    for axis, size in enumerate(objects.shape[1:], 1):
        if size > 1:
            inner.narrow(axis, 0, 1).zero_()
            inner.narrow(axis, size - 1, 1).zero_()
    return (_least(inner.flatten(1), ranks) == 0).view(objects.shape)


def _same(objects: torch.Tensor, axis: int) -> torch.Tensor:
    """Whether a voxel and the next one along an axis are of one object, as 1 or 0."""
    kept = objects.shape[axis] - 1
    here, there = objects.narrow(axis, 0, kept), objects.narrow(axis, 1, kept)
    return ((here == there) & (here != 0)).float()
