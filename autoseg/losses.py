"""Training losses and the weights of deep supervision."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from autoseg.planning.plan import LossKind, LossPlan

Loss = Callable[[torch.Tensor, torch.Tensor, LossPlan], torch.Tensor]


def ce_dice(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """Cross-entropy minus soft Dice over the foreground classes.

    `logits` [batch, class, *space], `target` class indices [batch, *space]. Dice follows Milletari
    et al. 2016 (arXiv:1606.04797) with plain sums in the denominator, averaged over foreground
    classes and, unless the plan sums Dice over the batch, over samples.
    """
    log_probability = F.log_softmax(logits.float(), dim=1)
    index = target.long()[:, None]
    cross_entropy = -log_probability.gather(1, index).mean()
    space = tuple(range(2, logits.ndim))
    probability = log_probability.exp()
    truth = torch.zeros_like(probability).scatter_(1, index, 1.0)
    overlap = (probability * truth).sum(space)[:, 1:]  # [batch, foreground class]
    total = (probability + truth).sum(space)[:, 1:]
    if plan.batch_dice:
        overlap, total = overlap.sum(0), total.sum(0)
    dice = (2 * overlap + plan.dice_smooth) / (total + plan.dice_smooth).clamp_min(1e-8)
    return cross_entropy - dice.mean()


def deep_supervision_loss(
    logits: Sequence[torch.Tensor], target: torch.Tensor, plan: LossPlan
) -> torch.Tensor:
    """The loss at every resolution, against the target at cell centres, weighted and summed.

    `logits` [batch, class, *space] come highest resolution first; `target` is at the highest.
    """
    loss = LOSSES[plan.kind]
    total = torch.zeros((), device=target.device)
    for output, weight in zip(logits, supervision_weights(len(logits)), strict=True):
        thin = tuple(
            slice(full // size // 2, None, full // size)  # the voxel at the cell's centre
            for full, size in zip(target.shape[1:], output.shape[2:], strict=True)
        )
        total = total + weight * loss(output, target[:, *thin], plan)
    return total


def supervision_weights(outputs: int) -> tuple[float, ...]:
    """Weights of the decoder's outputs: halved per level, together 1.

    nnU-Net v2's trainer does the same, with a further output below them that weighs 0; that one is
    not computed here.
    """
    halves = [0.5**level for level in range(outputs)]
    return tuple(weight / sum(halves) for weight in halves)


LOSSES: dict[LossKind, Loss] = {
    "ce_dice": ce_dice,
}
