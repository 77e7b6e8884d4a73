"""What a network is trained to say: what lies between labels and a network, and between its
outputs and an answer."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch

SumUp = Callable[[torch.Tensor], torch.Tensor]
Targets = Any  # what a task makes of labels; nobody else looks into it
Merging = Literal["dense", "queries"]  # how patches become a scan


def alone(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a training that has only one."""
    return values


class Task(Protocol):
    """A kind of answer, for one model. The trainer and the sliding window know no more than this.

    Outputs of a network are lists [batch, output, *space], highest resolution first, or what its
    family says. In training what has no annotation counts nowhere. Scores are outputs [output, ...]
    of a whole scan, merged from those of patches as `merging` says: dense ones are averaged; of
    queries scores are too, and besides the objects that they find in patches are joined.
    """

    @property
    def merging(self) -> Merging:
        """How outputs of overlapping patches become one of the scan."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored while training, in the order of `truth` and `decision`."""

    @property
    def class_outputs(self) -> int:
        """How many of the outputs, from the first, tell of classes or regions; of a whole scan
        these alone are scores, and the others are kept apart."""

    def targets(self, labels: torch.Tensor, objects: torch.Tensor | None = None) -> Targets:
        """What the loss compares with, made on the device of class indices [batch, *space], and of
        numbered objects where there are any."""

    def loss(self, outputs: Sequence[Any], targets: Targets, across: SumUp = alone) -> torch.Tensor:
        """The scalar to be minimised; `across` adds up over the processes that share a batch."""

    def truth(self, targets: Targets) -> torch.Tensor:
        """Which voxels have which name [batch, name, *space]."""

    def decision(self, outputs: Sequence[Any]) -> torch.Tensor:
        """Which voxels are given which name [batch, name, *space]."""

    def annotated(self, targets: Targets) -> torch.Tensor:
        """Which voxels somebody annotated [batch, *space]."""

    def seen_back(self, outputs: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Dense outputs [n, output, *space] of a mirror image along axes of them, as they lie in
        the image itself."""

    def decode(self, scores: torch.Tensor) -> torch.Tensor:
        """Class indices [...], uint8, as the label scheme decodes them."""

    def votes(self, scores: torch.Tensor) -> torch.Tensor:
        """Decisions of single models, to be compared for disagreement [batch, vote, *space]."""

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """How probable each output is [output, ...]."""

    def scores_of(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Scores that have these probabilities."""

    def entropy(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Shannon entropy [...] in nats."""
