"""How often a class is there where networks give it some probability, counted block after block.

Every voxel counts where the probability is above the lowest bin; of that bin, only those in the box
that holds the class in the reference: the background of a scan, of which every network is sure,
would hide all else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.inference.restore import Block

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Truth:
    """A reference as class indices [z, y, x] along the axes and in the crop of blocks.

    `has_class` says whether an index belongs to a class or region [name, index]; `boxes` hold them,
    None where the reference has none.
    """

    classes: NDArray[np.uint8]
    has_class: torch.Tensor
    boxes: tuple[Box | None, ...]

    @classmethod
    def of(cls, classes: NDArray[np.uint8], labels: LabelScheme) -> "Truth":
        members = labels.region_classes() or [(i,) for i in range(1, len(labels.values))]
        has_class = torch.zeros(len(members), IGNORED + 1)
        for row, own in zip(has_class, members, strict=True):
            row[list(own)] = 1
        found = ndimage.find_objects(classes, max_label=len(labels.values) - 1)
        boxes = tuple(_around([found[i - 1] for i in own if i > 0]) for own in members)
        return cls(classes, has_class, boxes)

    def in_block(self, block: Block) -> "TruthInBlock":
        """What of it lies where a block does, on the block's device."""
        here = block.values.device
        classes = torch.from_numpy(np.ascontiguousarray(self.classes[block.place])).to(here)
        in_box = torch.zeros((len(self.boxes), *classes.shape), dtype=torch.bool, device=here)
        for row, box in zip(in_box, self.boxes, strict=True):
            if box is not None:
                row[_within(box, block.place)] = True
        return TruthInBlock(classes, in_box, self.has_class.to(here))


@dataclass(frozen=True, slots=True)
class TruthInBlock:
    """Class indices [rows, y, x], and where the boxes are [name, rows, y, x]."""

    classes: torch.Tensor
    in_box: torch.Tensor
    has_class: torch.Tensor


class ReliabilitySums:
    """Adds up blocks of a scan, each voxel once; what is not annotated is left out."""

    def __init__(self, labels: LabelScheme, bins: int) -> None:
        self.first = 0 if labels.regions else 1  # of the outputs that stand for foreground
        self.bins = bins
        self.names = labels.output_count - self.first
        self.sums = torch.zeros(3, self.names * bins, dtype=torch.float64)

    def add(self, probabilities: torch.Tensor, truth: TruthInBlock) -> None:
        """Probabilities [output, rows, y, x]."""
        p = probabilities[self.first :]
        counted = ((p >= 1 / self.bins) | truth.in_box) & (truth.classes != IGNORED)
        places = counted.flatten().nonzero().squeeze(1)  # few, of most scans
        names, voxels = places // truth.classes.numel(), places % truth.classes.numel()
        values = p.flatten()[places]
        bins = (values * self.bins).long().clamp(max=self.bins - 1)
        there = truth.has_class[names, truth.classes.flatten()[voxels].long()]
        each = torch.stack((torch.ones_like(values), values, there)).double()
        sums = each.new_zeros(self.sums.shape).index_add(1, names * self.bins + bins, each)
        self.sums += sums.cpu()

    def result(self) -> NDArray[np.float64]:
        """Voxels, sums of probabilities, and voxels that have the class [name, 3, bin]."""
        found: NDArray[np.float64] = self.sums.view(3, self.names, self.bins).numpy()
        return found.transpose(1, 0, 2)


def _around(boxes: list[Any]) -> Box | None:
    """The box that holds boxes, some of which may be None."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    z, y, x = (
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*there, strict=True)
    )
    return z, y, x


def _within(box: Box, place: Box) -> Box:
    """What of a box lies in a block, counted from the block's corner."""
    z, y, x = (
        slice(max(0, own.start - part.start), max(0, min(own.stop, part.stop) - part.start))
        for own, part in zip(box, place, strict=True)
    )
    return z, y, x
