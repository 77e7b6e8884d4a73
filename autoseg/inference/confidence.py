"""How sure networks were of a mask, class by class, in sums that are taken block after block.

No volume is held: of each class six numbers. What they say of a mask's Dice is in
`postprocessing.quality`.
"""

from collections.abc import Iterable, Sequence

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
    # share of models that decide otherwise, mean within the mask; None where empty, or not compared
    disagreement: float | None = None


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
        self.compares = False
        # rows: voxels of the mask; sums of p and of disagreement in it, of p, of p squared; largest
        self.sums = torch.zeros(6, len(self.names), dtype=torch.float64)

    def add(
        self,
        probabilities: torch.Tensor,
        classes: torch.Tensor,
        disagreement: torch.Tensor | None = None,
    ) -> None:
        """Probabilities [output, rows, y, x]; what was decided, as class index, and the share of
        models that decide otherwise [rows, y, x]."""
        p = probabilities[self.first :].flatten(1)  # [name, voxel]
        if not p.numel():
            return
        self.compares = disagreement is not None
        other = p.new_zeros(p.shape[1]) if disagreement is None else disagreement.reshape(-1)
        norm = torch.linalg.vector_norm(p, dim=1)
        inside = self._inside(p, classes.reshape(-1), other)
        found = torch.stack((*inside, p.sum(1), norm.square(), p.amax(1))).to("cpu", torch.float64)
        self.sums[:5] += found[:5]
        self.sums[5] = torch.maximum(self.sums[5], found[5])

    def _inside(
        self, p: torch.Tensor, classes: torch.Tensor, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """How many voxels the mask of each name has, and the sums of its probabilities and of
        another map there."""
        places = classes.nonzero().squeeze(1)  # few, of most scans
        painted, other = classes[places].long(), other[places]
        if self.first == 0:
            members = self.members.to(p.device)[:, painted].to(p.dtype)  # [region, voxel inside]
            return members.sum(1), (members * p[:, places]).sum(1), members @ other
        own = painted - 1  # classes exclude each other, so each voxel has one row to look at
        counts = torch.bincount(own, minlength=len(p)).to(p.dtype)
        nothing = p.new_zeros(len(p))
        within = nothing.index_add(0, own, p[own, places])
        return counts, within, nothing.index_add(0, own, other)

    def result(self) -> tuple[ClassConfidence, ...]:
        """One for each foreground class, or region, in the order of the label scheme."""
        return tuple(
            _confidence(name, values, self.compares)
            for name, values in zip(self.names, self.sums.T.tolist(), strict=True)
        )


def presence(confidences: Iterable[ClassConfidence]) -> dict[str, Confidence]:
    """What steps of post-processing look at, by class."""
    return {
        c.name: Confidence(
            largest_probability=c.largest_probability,
            mean_probability=c.mean_probability,
            expected_dice=c.expected_dice,
        )
        for c in confidences
    }


def _confidence(name: str, sums: Sequence[float], compares: bool) -> ClassConfidence:
    voxels, within, otherwise, total, squares, largest = sums
    return ClassConfidence(
        name=name,
        voxels=int(voxels),
        expected_voxels=total,
        expected_dice=2 * within / (voxels + total) if voxels else None,
        mean_probability=within / voxels if voxels else None,
        largest_probability=largest,
        doubt=(total - squares) / voxels if voxels else None,
        disagreement=otherwise / voxels if voxels and compares else None,
    )


def _members(labels: LabelScheme) -> torch.Tensor:
    """Whether a class index, as `decode` gives it, belongs to a region [region, class index]."""
    painted = (labels.values[0], *labels.region_order)
    return torch.tensor([[value in r.values for value in painted] for r in labels.regions])
