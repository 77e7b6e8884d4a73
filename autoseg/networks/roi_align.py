"""From boxes to features and back: RoIAlign over a pyramid, and masks put into their patch.

Both interpolate linearly between the centres of voxels, and no place is rounded (He et al. 2017,
arXiv:1703.06870); beyond the first and the last voxel there is no change. Boxes are as in
`box_geometry`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log2, prod

import torch

from autoseg.networks.box_geometry import sides
from autoseg.planning.network_plan import PerAxis

MOST_SAMPLES = 4  # of a bin and axis, where they are as many as it is wide
REGION_VOX = 10.0  # how wide a region is, about, at the level that it is looked at: 7 to 14


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Features [batch, feature, *space] of several resolutions, the finest first, and how many
    voxels of the patch one of theirs stands for, per axis."""

    maps: Sequence[torch.Tensor]
    strides: Sequence[PerAxis]

    def level_of(self, boxes: torch.Tensor) -> torch.Tensor:
        """The level [batch, box] at which a box is nearest to REGION_VOX wide, by the geometric
        mean of its sides (Lin et al. 2017, arXiv:1612.03144, equation 1)."""
        octaves = sides(boxes).log2().mean(-1)
        level = torch.zeros_like(octaves)
        for finer, coarser in zip(self.strides, self.strides[1:], strict=False):
            between = sum(map(log2, (*finer, *coarser))) / (2 * len(finer))
            level = level + (octaves > log2(REGION_VOX) + between)
        return level

    def by_level(self, level: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
        """The value of each one's level."""
        chosen = torch.zeros_like(level)
        for index, value in enumerate(values):
            chosen = torch.where(level == index, float(value), chosen)
        return chosen

    def rows(self) -> torch.Tensor:
        """All voxels of a sample, level after level, sample after sample [voxel, feature]."""
        return torch.cat([x.flatten(2).transpose(1, 2) for x in self.maps], dim=1).flatten(0, 1)


def roi_align(
    pyramid: Pyramid, boxes: torch.Tensor, bins: PerAxis, samples: int | None
) -> torch.Tensor:
    """What lies in boxes [batch, box, 2 x axis], divided into bins [batch x box, feature, *bins]:
    means of `samples` an axis of each bin; None: as many as the bin is wide, MOST_SAMPLES at most.
    """
    rows, level = pyramid.rows(), pyramid.level_of(boxes)
    sizes = [x[0, 0].numel() for x in pyramid.maps]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    sample = torch.arange(boxes.shape[0], device=boxes.device) * sum(sizes)
    first = pyramid.by_level(level, starts).long() + sample[:, None]  # [batch, box]
    axes = [_sampled(pyramid, boxes, level, axis, n, samples) for axis, n in enumerate(bins)]
    found = torch.zeros((), device=boxes.device)
    for entries in product(*(range(axis.offset.shape[-1]) for axis in axes)):
        index, weight = first[..., None], torch.ones_like(level)[..., None]
        for axis, entry in zip(axes, entries, strict=True):
            index = (index[..., None] + axis.offset[..., None, :, entry]).flatten(2)
            weight = (weight[..., None] * axis.weight[..., None, :, entry]).flatten(2)
        found = found + rows.index_select(0, index.flatten()) * weight.flatten()[:, None]
    return found.view(-1, *bins, rows.shape[1]).movedim(-1, 1)


@dataclass(frozen=True, slots=True)
class _Sampled:
    """The voxels that bins look at along an axis [batch, box, bin, voxel]: their weights, and how
    far each is from the first of its level in a row of all voxels."""

    offset: torch.Tensor
    weight: torch.Tensor


def _sampled(
    pyramid: Pyramid,
    boxes: torch.Tensor,
    level: torch.Tensor,
    axis: int,
    bins: int,
    samples: int | None,
) -> _Sampled:
    shapes = [x.shape[2:] for x in pyramid.maps]
    stride = pyramid.by_level(level, [s[axis] for s in pyramid.strides])
    last = pyramid.by_level(level, [n[axis] - 1 for n in shapes])[..., None, None]
    step = pyramid.by_level(level, [prod(n[axis + 1 :]) for n in shapes])[..., None, None]
    begin = (boxes[..., axis] / stride)[..., None, None]
    end = (boxes[..., boxes.shape[-1] // 2 + axis] / stride)[..., None, None]
    width = (end - begin) / bins
    many = torch.full_like(width, samples) if samples else width.ceil().clamp(1, MOST_SAMPLES)
    number = torch.arange(samples or MOST_SAMPLES, device=boxes.device)
    bin_number = torch.arange(bins, device=boxes.device)[:, None]
    place = begin + width * (bin_number + (number + 0.5) / many) - 0.5  # [batch, box, bin, sample]
    place = torch.minimum(place.clamp_min(0), last)
    low = place.floor()
    share, weight = place - low, (number < many) / many
    both = torch.cat((low, torch.minimum(low + 1, last)), dim=-1)
    return _Sampled((both * step).long(), torch.cat(((1 - share) * weight, share * weight), dim=-1))


def pasted(
    values: torch.Tensor, boxes: torch.Tensor, size: PerAxis, stride: PerAxis, outside: float
) -> torch.Tensor:
    """Values [n, *bins] in their boxes [n, 2 x axis], put into a map [n, *size] whose voxels are
    `stride` of the patch; each is `outside` beyond its box."""
    found = values - outside
    for axis, (count, step) in enumerate(zip(size, stride, strict=True)):
        bins, rest = found.shape[1], found.shape[2:]
        centre = (torch.arange(count, device=boxes.device) + 0.5) * step
        low, high = boxes[:, axis, None], boxes[:, len(size) + axis, None]
        place = ((centre - low) / (high - low) * bins - 0.5).clamp(0, bins - 1)  # [n, voxel]
        weight = 1 - (place[..., None] - torch.arange(bins, device=boxes.device)).abs()
        weight = weight.clamp_min(0) * ((centre >= low) & (centre < high))[..., None]
        # What is done becomes the last axis, so that the next one is first.
        found = (
            torch.bmm(weight, found.flatten(2)).view(found.shape[0], count, *rest).movedim(1, -1)
        )
    return found + outside
