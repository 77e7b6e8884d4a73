"""What is made of a whole scan: a mask, and maps beside it, as blocks of scores come."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.geometry import Placement
from autoseg.inference.confidence import ClassConfidence, ConfidenceSums
from autoseg.inference.joining import JoinedObjects
from autoseg.inference.probabilities import ProbabilityFile
from autoseg.inference.restore import Block, crop_of
from autoseg.tasks.voxel_answer import VoxelAnswer

BYTES_PER_VOXEL = 13  # of the source: classes, two maps of uncertainty, one of objects, labels
PARTING_BYTES = 2  # for each voxel of the source, and further output


@dataclass(frozen=True, slots=True)
class RequestedMaps:
    """What to make besides the mask: maps of uncertainty, how sure each class is, what tells
    objects apart, and a file of probabilities."""

    uncertainty: bool = False
    confidence: bool = False
    objects: bool = False
    probability_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Maps:
    """Class indices [z, y, x] on a scan's grid, maps of uncertainty, how sure each class is, and
    what to warn of; of objects, how probable the likeliest class of each voxel is, and what parts
    them [1 or 3, z, y, x], where the models learned that: how deep a voxel lies in its object, or
    the way to its middle along the scan's axes."""

    classes: NDArray[np.uint8]
    entropy: NDArray[np.float32] | None
    disagreement: NDArray[np.float32] | None
    confidence: tuple[ClassConfidence, ...] | None
    warnings: tuple[str, ...]
    certainty: NDArray[np.float16] | None = None
    parting: NDArray[np.float16] | None = None
    objects: JoinedObjects | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What the values of a block are: scores, `further` ones that part objects, and where models
    are compared the share of them that disagree; and where blocks lie in the scan."""

    answer: VoxelAnswer
    further: int
    compares: bool
    placement: Placement


@dataclass(slots=True)
class MapsInProgress:
    """The maps of a scan while blocks of it come; None are those that nobody asked for."""

    layout: Layout
    classes: NDArray[np.uint8]
    file: ProbabilityFile | None = None
    entropy: NDArray[np.float32] | None = None
    disagreement: NDArray[np.float32] | None = None
    certainty: NDArray[np.float16] | None = None
    parting: NDArray[np.float16] | None = None
    sums: ConfidenceSums | None = None

    @classmethod
    def blank(
        cls,
        layout: Layout,
        requested: RequestedMaps,
        labels: LabelScheme,
        file: ProbabilityFile | None,
    ) -> "MapsInProgress":
        """Background everywhere."""
        shape, parts = layout.placement.source_shape_vox, requested.objects and layout.further > 0
        return cls(
            layout,
            np.zeros(shape, np.uint8),
            file,
            entropy=np.zeros(shape, np.float32) if requested.uncertainty else None,
            disagreement=np.zeros(shape, np.float32) if layout.compares else None,
            certainty=np.zeros(shape, np.float16) if requested.objects else None,
            parting=np.zeros((layout.further, *shape), np.float16) if parts else None,
            sums=ConfidenceSums(labels) if requested.confidence else None,
        )

    def add(self, block: Block) -> None:
        """Paint what a block decides."""
        answer, outputs = self.layout.answer, self.layout.answer.outputs
        scores, disagreeing = block.values[:outputs], block.values[-1]
        decided = answer.decode(scores)
        self._put(self.classes, block, decided)
        if self.parting is not None:
            learned = block.values[outputs : outputs + self.layout.further]
            self._put(self.parting, block, along_source(learned, self.layout.placement))
        self._put(self.disagreement, block, disagreeing)
        if all(made is None for made in (self.entropy, self.file, self.sums, self.certainty)):
            return
        probability = answer.probabilities(scores)
        if self.certainty is not None:
            self._put(self.certainty, block, probability.amax(0))
        if self.sums is not None:
            self.sums.add(probability, decided, disagreeing if self.layout.compares else None)
        if self.entropy is not None:
            self._put(self.entropy, block, answer.entropy(probability))
        if self.file is not None:
            self._put(self.file.array, block, probability)
            self.file.settle()

    def finished(self, warnings: tuple[str, ...], objects: JoinedObjects | None) -> Maps:
        """The maps, when all blocks are there."""
        return Maps(
            self.classes,
            self.entropy,
            self.disagreement,
            None if self.sums is None else self.sums.result(),
            warnings,
            self.certainty,
            self.parting,
            objects,
        )

    def _put(self, whole: NDArray[np.generic] | None, block: Block, values: torch.Tensor) -> None:
        """Write a block's values [..., rows, y, x] where they belong on the scan's grid."""
        if whole is not None:
            crop_of(whole, self.layout.placement)[..., *block.place] = values.cpu().numpy()


def along_source(learned: torch.Tensor, placement: Placement) -> torch.Tensor:
    """What parts objects [1 or 3, ...]; vectors, which are of three, turned along the source's
    axes."""
    if len(learned) != len(placement.axis_order):
        return learned
    own = np.argsort(placement.axis_order).tolist()
    signs = [-1.0 if axis in placement.flipped_axes else 1.0 for axis in range(len(own))]
    return learned[own] * learned.new_tensor(signs).view(-1, 1, 1, 1)
