"""A quick look at how a training goes: patches of the held-out cases, the same every epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augmentation.batch import Batch
from autoseg.tasks.task import SumUp, Task

EXAMPLES = 3

Forward = Callable[[Batch], list[torch.Tensor]]


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

    loss: float | None = None
    dice: dict[str, float | None] | None = None
    examples: tuple[Example, ...] = ()


@torch.no_grad()
def score_patches(
    batches: Iterable[Batch], forward: Forward, task: Task, device: torch.device, across: SumUp
) -> PatchScores:
    """Scores over batches, summed over all processes, which have some each; the fold's own figure
    comes from whole scans."""
    examples: list[Example] = []
    answer = task.answer
    losses = torch.zeros(2, 1, dtype=torch.double, device=device)  # sum, and of how many
    counts = torch.zeros(2, len(answer.names), dtype=torch.double, device=device)  # overlap, total
    for batch in batches:
        outputs, targets = forward(batch), task.targets(batch.label, batch.objects)
        loss = task.loss(outputs, targets).reshape(1).double()
        losses = losses + torch.stack((loss, torch.ones_like(loss)))
        labels = task.labels(targets)
        annotated = answer.annotated(labels)[:, None]
        predicted = answer.decision(task.scores(outputs)) & annotated  # [batch, name, *space]
        truth = answer.truth(labels) & annotated
        space = (0, *range(2, truth.ndim))
        overlap, total = 2 * (predicted & truth).sum(space), predicted.sum(space) + truth.sum(space)
        counts = counts + torch.stack((overlap, total))
        if len(examples) < EXAMPLES:
            examples.append(_example(batch, truth, predicted))
    (loss_sum, *overlaps), (batch_count, *totals) = across(torch.cat((losses, counts), 1)).tolist()
    dice = {
        name: overlap / total if total else None
        for name, overlap, total in zip(answer.names, overlaps, totals, strict=True)
    }
    return PatchScores(loss_sum / batch_count, dice, tuple(examples))


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
