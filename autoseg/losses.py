"""Training losses, and the weights of deep supervision.

A loss takes `logits` [batch, output, *space], class indices `target` [batch, *space] and its plan,
and gives a scalar, computed in single precision at least. The outputs are classes, the background
first, or the plan's regions. IGNORED voxels count in no term; without any other voxel the loss is
finite and has no gradient. Means are over voxels that somebody annotated, whatever these weigh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F

from autoseg.dataset import IGNORED
from autoseg.planning.plan import LossKind, LossPlan

Loss = Callable[[torch.Tensor, torch.Tensor, LossPlan], torch.Tensor]

SMALLEST_BASE = 1e-6  # a power below 1 has no finite slope at 0
SMALLEST_TOTAL = 1e-8


def ce_dice(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """Cross-entropy minus soft Dice."""
    seen = compare(logits, target, plan)
    return seen.mean(seen.cross_entropy) - dice(seen, plan).mean()


def ce_tversky(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """Cross-entropy minus the Tversky index."""
    seen = compare(logits, target, plan)
    return seen.mean(seen.cross_entropy) - tversky(seen, plan).mean()


def topk_dice(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """The mean of the batch's largest cross-entropies minus soft Dice.

    Wu et al. 2016 (arXiv:1605.06885). `top_k_fraction` of the annotated voxels count, at least one.
    """
    seen = compare(logits, target, plan)
    return seen.mean_of_largest(seen.cross_entropy, plan.top_k_fraction) - dice(seen, plan).mean()


def focal_dice(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """Focal cross-entropy minus soft Dice.

    Lin et al. 2017 (arXiv:1708.02002): cross-entropy times (1 - p)^`focal_gamma`, where p is the
    probability given to the truth.
    """
    seen = compare(logits, target, plan)
    doubt = _power(-torch.expm1(-seen.cross_entropy), plan.focal_gamma)
    return seen.mean(doubt * seen.cross_entropy) - dice(seen, plan).mean()


def focal_tversky(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> torch.Tensor:
    """(1 - Tversky index)^(1 / `focal_gamma`), without cross-entropy.

    Abraham & Khan 2018 (arXiv:1810.07842), who found a gamma of 4/3 best; other implementations
    call the exponent itself gamma. Theirs is the sum over classes, this the mean.
    """
    index = tversky(compare(logits, target, plan), plan)
    return _power(1 - index, 1 / plan.focal_gamma).mean()


def deep_supervision_loss(
    logits: Sequence[torch.Tensor], target: torch.Tensor, plan: LossPlan
) -> torch.Tensor:
    """The loss at every resolution, against the target at cell centres, weighted and summed.

    `logits` [batch, output, *space] come highest resolution first; `target` is at the highest.
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


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction beside the truth, voxel by voxel; all of it 0 where nobody annotated.

    Cross-entropy has one term for each voxel, or one for each region and voxel. Overlap is of the
    foreground classes, or of the regions.
    """

    cross_entropy: torch.Tensor  # [batch, term, *space]
    probability: torch.Tensor  # [batch, foreground, *space]
    truth: torch.Tensor  # [batch, foreground, *space], 1 or 0
    annotated_count: torch.Tensor  # voxels of the batch; a tensor, so that no GPU is waited for
    class_weight: torch.Tensor | None  # [batch, 1, *space]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of values [batch, term, *space], weighted by class, over annotated voxels."""
        count = self.annotated_count * values.shape[1]
        return self._weighted(values).sum() / count.clamp_min(1)

    def mean_of_largest(self, values: torch.Tensor, fraction: float) -> torch.Tensor:
        """The same over a fraction of the values alone, the largest; none may be negative."""
        weighted = self._weighted(values).flatten()
        largest = weighted.topk(max(1, int(fraction * len(weighted)))).values
        count = (fraction * values.shape[1] * self.annotated_count).floor().clamp(1, len(largest))
        rank = torch.arange(len(largest), device=largest.device)
        return (largest * (rank < count)).sum() / count

    def _weighted(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.class_weight is None else values * self.class_weight


def compare(logits: torch.Tensor, target: torch.Tensor, plan: LossPlan) -> Comparison:
    """What the terms of a loss are made of."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = None if plan.class_weights is None else _weight(target, plan.class_weights)
    # A GPU is not asked whether any voxel is ignored, for it would have to be waited for.
    if target.device.type == "cpu" and int(target.max()) != IGNORED:
        count = torch.tensor(target.numel())
        return Comparison(*_terms(logits, target, target, plan), count, weight)
    annotated = target != IGNORED
    cross_entropy, probability, truth = _terms(logits, target, target * annotated, plan)
    mask = annotated.to(logits.dtype)[:, None]
    return Comparison(
        cross_entropy * mask, probability * mask, truth, annotated.count_nonzero(), weight
    )


def dice(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """Soft Dice, Milletari et al. 2016 (arXiv:1606.04797) with plain sums in the denominator."""
    return _overlap_index(seen, plan, 0.5, 0.5)


def tversky(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """The Tversky index, Salehi et al. 2017 (arXiv:1706.05721); weights of a half make it Dice."""
    return _overlap_index(seen, plan, plan.false_positive_weight, plan.false_negative_weight)


def _terms(
    logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor, plan: LossPlan
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross-entropy, probability and truth; `known` is the target with 0 for what is ignored."""
    if plan.regions:
        members = [_is_any_of(target, region) for region in plan.regions]
        truth = torch.stack(members, dim=1).to(logits.dtype)  # [batch, region, *space]
        cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return cross_entropy, logits.sigmoid(), truth
    log_probability = F.log_softmax(logits, dim=1)
    cross_entropy = -log_probability.gather(1, known.long()[:, None])  # [batch, 1, *space]
    classes = torch.arange(1, logits.shape[1], dtype=target.dtype, device=target.device)
    truth = target[:, None] == classes.view(-1, *[1] * (target.ndim - 1))
    return cross_entropy, log_probability[:, 1:].exp(), truth.to(logits.dtype)


def _overlap_index(
    seen: Comparison, plan: LossPlan, false_positive_weight: float, false_negative_weight: float
) -> torch.Tensor:
    """Overlap of each [sample, foreground], or of each [foreground] in the batch as a whole."""
    space = tuple(range(2, seen.truth.ndim))
    true_positive = (seen.probability * seen.truth).sum(space)  # [batch, foreground]
    false_positive = seen.probability.sum(space) - true_positive
    false_negative = seen.truth.sum(space) - true_positive
    errors = false_positive_weight * false_positive + false_negative_weight * false_negative
    if plan.batch_dice:
        true_positive, errors = true_positive.sum(0), errors.sum(0)
    total = 2 * (true_positive + errors) + plan.dice_smooth
    return (2 * true_positive + plan.dice_smooth) / total.clamp_min(SMALLEST_TOTAL)


def _is_any_of(target: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    # Class by class, because a list of classes would have to be sent to a GPU first.
    return reduce(torch.logical_or, (target == index for index in classes))


def _weight(target: torch.Tensor, class_weights: Sequence[float]) -> torch.Tensor:
    weights = (weight * (target == index) for index, weight in enumerate(class_weights))
    return reduce(torch.add, weights)[:, None]


def _power(base: torch.Tensor, exponent: float) -> torch.Tensor:
    return base.clamp_min(SMALLEST_BASE) ** exponent


LOSSES: dict[LossKind, Loss] = {
    "ce_dice": ce_dice,
    "ce_tversky": ce_tversky,
    "topk_dice": topk_dice,
    "focal_dice": focal_dice,
    "focal_tversky": focal_tversky,
}
