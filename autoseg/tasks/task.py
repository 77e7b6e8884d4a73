"""What a network is trained to say: what lies between labels and a network, and between its
outputs and an answer."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch

from autoseg.tasks.voxel_answer import VoxelAnswer

SumUp = Callable[[torch.Tensor], torch.Tensor]
SeenBack = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
Targets = Any  # what a task makes of labels; nobody else looks into it
Merging = Literal["dense", "queries"]  # how patches become a scan


def alone(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a training that has only one."""
    return values


def flipped_back(outputs: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Outputs of a mirror image, whose values do not depend on directions, as they lie in the
    image itself."""
    return outputs.flip(tuple(axes)) if axes else outputs


class Task(Protocol):
    """A kind of answer, for one model. The trainer and the sliding window know no more than this.

    Outputs of a network are lists [batch, output, *space], highest resolution first, or what its
    family says. In training what has no annotation counts nowhere. Of a whole scan outputs
    [output, ...] are merged from those of patches as `merging` says: dense ones are averaged; of
    queries scores are too, and besides the objects that they find in patches are joined. The first
    of them are scores, which `answer` reads; others are kept apart.
    """

    @property
    def answer(self) -> VoxelAnswer:
        """What scores of voxels say."""

    @property
    def merging(self) -> Merging:
        """How outputs of overlapping patches become one of the scan."""

    @property
    def seen_back(self) -> SeenBack:
        """Turns dense outputs [n, output, *space] of a mirror image along axes of them into what
        they are in the image itself."""

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> Targets:
        """What the loss compares with, made on the device of class indices [batch, *space], and of
        numbered objects where there are any."""

    def loss(self, outputs: Sequence[Any], targets: Targets, across: SumUp = alone) -> torch.Tensor:
        """The scalar to be minimised; `across` adds up over the processes that share a batch."""

    def labels(self, targets: Targets) -> torch.Tensor:
        """The class indices [batch, *space] that targets were made of."""

    def scores(self, outputs: Sequence[Any]) -> torch.Tensor:
        """Scores of a patch's voxels [batch, output, *space], to be looked at while training."""
