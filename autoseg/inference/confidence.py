"""How sure networks were of a mask, class by class, in sums that are taken block after block.

No volume is held: of each class five numbers. What they say of a mask's Dice is in `quality`.
"""

from collections.abc import Iterable

import torch

from autoseg.dataset.labels import LabelScheme
from autoseg.postprocessing.steps import Confidence
from autoseg.records import Record


class ClassConfidence(Record):
    """What the probabilities of a scan say of the mask of one class, or of one region."""

    name: str
    voxels: int  # of the mask, on the scan's own grid
    expected_voxels: float  # sum of probabilities over the scan
    expected_dice: float | None  # of probabilities and mask; None where the mask is empty
    mean_probability: float | None  # within the mask; None where it is empty
    largest_probability: float  # anywhere in the scan
    doubt: float | None  # sum of p (1 - p) over the scan, per voxel of the mask; None where empty


class ConfidenceSums:
    """Adds up blocks of a scan, each voxel once; what is left out is certain background.

    `expected_dice` is soft Dice, 2 sum_mask(p) / (|mask| + sum(p)): were probabilities true, this
    would be the ratio of the expected overlap to the expected sizes. Regions may overlap: the mask
    of each is all that was painted with one of its values.
    """

    def __init__(self, labels: LabelScheme) -> None:
        self.names = tuple(region.name for region in labels.regions) or labels.names[1:]
        self.first = 0 if labels.regions else 1  # of the outputs that stand for foreground
        self.members = _members(labels)  # looked at for regions alone
        # rows: voxels of the mask; sums of p in it, of p, and of p squared; largest p
        self.sums = torch.zeros(5, len(self.names), dtype=torch.float64)

    def add(self, probabilities: torch.Tensor, classes: torch.Tensor) -> None:
        """Probabilities [output, rows, y, x], and what was decided [rows, y, x] as class index."""
        p = probabilities[self.first :].flatten(1)  # [name, voxel]
        if not p.numel():
            return
        voxels, within = self._inside(p, classes.reshape(-1))
        norm = torch.linalg.vector_norm(p, dim=1)
        found = torch.stack((voxels, within, p.sum(1), norm.square(), p.amax(1)))
        found = found.to("cpu", torch.float64)
        self.sums[:4] += found[:4]
        self.sums[4] = torch.maximum(self.sums[4], found[4])

    def _inside(self, p: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How many voxels the mask of each name has, and the sum of its probabilities there."""
        places = classes.nonzero().squeeze(1)  # few, of most scans
        painted = classes[places].long()
        if self.first == 0:
            members = self.members.to(p.device)[:, painted]  # [region, voxel inside]
            return members.sum(1).to(p.dtype), torch.where(members, p[:, places], 0).sum(1)
        own = painted - 1  # classes exclude each other, so each voxel has one row to look at
        within = p.new_zeros(len(p)).index_add_(0, own, p[own, places])
        return torch.bincount(own, minlength=len(p)).to(p.dtype), within

    def result(self) -> tuple[ClassConfidence, ...]:
        """One for each foreground class, or region, in the order of the label scheme."""
        return tuple(
            _confidence(name, *values)
            for name, values in zip(self.names, self.sums.T.tolist(), strict=True)
        )


def presence(confidences: Iterable[ClassConfidence]) -> dict[str, Confidence]:
    """What steps of post-processing look at, by class."""
    return {
        c.name: Confidence(
            largest_probability=c.largest_probability, mean_probability=c.mean_probability
        )
        for c in confidences
    }


def _confidence(
    name: str, voxels: float, within: float, total: float, squares: float, largest: float
) -> ClassConfidence:
    return ClassConfidence(
        name=name,
        voxels=int(voxels),
        expected_voxels=total,
        expected_dice=2 * within / (voxels + total) if voxels else None,
        mean_probability=within / voxels if voxels else None,
        largest_probability=largest,
        doubt=(total - squares) / voxels if voxels else None,
    )


def _members(labels: LabelScheme) -> torch.Tensor:
    """Whether a class index, as `decode` gives it, belongs to a region [region, class index]."""
    painted = (labels.values[0], *labels.region_order)
    return torch.tensor([[value in r.values for value in painted] for r in labels.regions])
