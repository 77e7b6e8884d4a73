"""A quick look at how a training goes: patches of the held-out cases, the same every epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augmentation.sample import Batch
from autoseg.dataset.dataset import IGNORED, LabelScheme
from autoseg.planning.plan import LossPlan
from autoseg.tasks.losses import deep_supervision_loss

EXAMPLES = 3

Forward = Callable[[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Example:
    """The middle slice of a patch: first channel, and outputs [output, y, x] true and predicted."""

    case_id: str
    image: NDArray[np.float32]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PatchScores:
    """Mean loss, Dice of each class or region over all patches, and a few of them to look at."""

    loss: float
    dice: dict[str, float | None]
    examples: tuple[Example, ...]


@torch.no_grad()
def score_patches(
    batches: Iterable[Batch], forward: Forward, loss: LossPlan, labels: LabelScheme
) -> PatchScores:
    """Scores over batches; the fold's own figure comes from whole scans."""
    losses: list[torch.Tensor] = []
    examples: list[Example] = []
    counts: torch.Tensor | None = None  # [overlap and total, output]
    for batch in batches:
        logits = forward(batch.image)
        losses.append(deep_supervision_loss(logits, batch.label, loss))
        annotated = (batch.label != IGNORED)[:, None]
        predicted = _decide(logits[0], loss) & annotated  # [batch, output, *space]
        truth = _members(batch.label, loss, logits[0].shape[1]) & annotated
        space = (0, *range(2, truth.ndim))
        overlap, total = 2 * (predicted & truth).sum(space), predicted.sum(space) + truth.sum(space)
        counted = torch.stack((overlap, total))
        counts = counted if counts is None else counts + counted
        if len(examples) < EXAMPLES:
            examples.append(_example(batch, truth, predicted))
    assert counts is not None
    names = [region.name for region in labels.regions] or list(labels.names[1:])
    dice = {
        name: overlap / total if total else None
        for name, overlap, total in zip(names, *counts.tolist(), strict=True)
    }
    return PatchScores(float(torch.stack(losses).mean()), dice, tuple(examples))


def _decide(logits: torch.Tensor, loss: LossPlan) -> torch.Tensor:
    """Which outputs each voxel has [batch, region or foreground class, *space]."""
    if loss.regions:
        return logits > 0
    return _indicators(logits.max(1).indices, logits.shape[1])


def _members(label: torch.Tensor, loss: LossPlan, outputs: int) -> torch.Tensor:
    if loss.regions:
        regions = [torch.isin(label, label.new_tensor(region)) for region in loss.regions]
        return torch.stack(regions, dim=1)
    return _indicators(label, outputs)


def _indicators(classes: torch.Tensor, class_count: int) -> torch.Tensor:
    return torch.stack([classes == index for index in range(1, class_count)], dim=1)


def _example(batch: Batch, truth: torch.Tensor, predicted: torch.Tensor) -> Example:
    """Of the last sample of a batch, which is the one centred on foreground."""
    image, true, found = batch.image[-1, :1], truth[-1], predicted[-1]
    if image.ndim == 4:
        middle = image.shape[1] // 2
        image, true, found = image[:, middle], true[:, middle], found[:, middle]
    return Example(
        case_id=batch.case_ids[-1],
        image=image[0].float().cpu().numpy(),
        truth=true.cpu().numpy(),
        prediction=found.cpu().numpy(),
    )
