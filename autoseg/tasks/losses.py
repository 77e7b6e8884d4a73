"""Training losses, and the weights of deep supervision.

A loss takes what was predicted `seen` beside the truth, and its plan, and gives a scalar, computed
in single precision at least. The network's outputs are classes, the background first, or the task's
regions. IGNORED voxels count in no term; without any other voxel the loss is finite and has no
gradient. Means are over voxels that somebody annotated, whatever these weigh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F

from autoseg.dataset.labels import IGNORED
from autoseg.errors import AutosegError
from autoseg.extensions import load_extension
from autoseg.planning.run_plan import LossPlan
from autoseg.tasks.task import SumUp, alone
from autoseg.tasks.voxel_answer import is_any_of

Regions = Sequence[Sequence[int]]  # class indices of each output; empty: outputs are classes

SMALLEST_BASE = 1e-6  # a power below 1 has no finite slope at 0
SMALLEST_TOTAL = 1e-8
MATCHED, FOUND_BOXES = "matched_masks", "found_boxes"  # which no voxel has


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction beside the truth, voxel by voxel; all of it 0 where nobody annotated.

    Cross-entropy has one term for each voxel, or one for each region and voxel. Overlap is of the
    foreground classes, or of the regions. `sum_up` adds up over the processes that share a batch.
    """

    cross_entropy: torch.Tensor  # [batch, term, *space]
    probability: torch.Tensor  # [batch, foreground, *space]
    truth: torch.Tensor  # [batch, foreground, *space], 1 or 0
    annotated_count: torch.Tensor  # voxels of the batch; a tensor, so that no GPU is waited for
    voxel_weight: torch.Tensor | None  # [batch, 1, *space], of cross-entropy
    sum_up: SumUp

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of values [batch, term, *space], weighted, over annotated voxels."""
        return self._share(self._weighted(values).sum(), self.annotated_count * values.shape[1])

    def mean_of_largest(self, values: torch.Tensor, fraction: float) -> torch.Tensor:
        """The same over a fraction of the values alone, the largest; none may be negative.

        Processes that share a batch each choose among their own values.
        """
        weighted = self._weighted(values).flatten()
        largest = weighted.topk(max(1, int(fraction * len(weighted)))).values
        count = (fraction * values.shape[1] * self.annotated_count).floor().clamp(1, len(largest))
        rank = torch.arange(len(largest), device=largest.device)
        return self._share((largest * (rank < count)).sum(), count)

    def mean_over_samples(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of values [sample, foreground], or of [foreground] of the batch as a whole."""
        if values.ndim == 1:
            return values.mean()
        count = torch.full((), values.numel(), device=values.device)
        return self._share(values.sum(), count)

    def _share(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """A mean over all processes; they exchange both numbers at once."""
        total, count = self.sum_up(torch.stack((total, count.to(total.dtype))))
        return total / count.clamp_min(1)

    def _weighted(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.voxel_weight is None else values * self.voxel_weight


@dataclass(frozen=True, slots=True)
class Meaning:
    """Outputs are regions, where there are any, else classes. Whether targets may be IGNORED is
    known beforehand, since a device that is asked has to be waited for."""

    regions: Regions = ()
    has_ignored: bool = True


CLASSES = Meaning()

Loss = Callable[[Comparison, LossPlan], torch.Tensor]


def ce_dice(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """Cross-entropy minus soft Dice."""
    return seen.mean(seen.cross_entropy) - dice(seen, plan)


def ce_tversky(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """Cross-entropy minus the Tversky index."""
    return seen.mean(seen.cross_entropy) - seen.mean_over_samples(tversky(seen, plan))


def topk_dice(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """The mean of the batch's largest cross-entropies minus soft Dice.

    Wu et al. 2016 (arXiv:1605.06885). `top_k_fraction` of the annotated voxels count, at least one.
    """
    return seen.mean_of_largest(seen.cross_entropy, plan.top_k_fraction) - dice(seen, plan)


def focal_dice(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """Focal cross-entropy minus soft Dice.

    Lin et al. 2017 (arXiv:1708.02002): cross-entropy times (1 - p)^`focal_gamma`, where p is the
    probability given to the truth.
    """
    doubt = _power(-torch.expm1(-seen.cross_entropy), plan.focal_gamma)
    return seen.mean(doubt * seen.cross_entropy) - dice(seen, plan)


def focal_tversky(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """(1 - Tversky index)^(1 / `focal_gamma`), without cross-entropy.

    Abraham & Khan 2018 (arXiv:1810.07842), who found a gamma of 4/3 best; other implementations
    call the exponent itself gamma. Theirs is the sum over classes, this the mean.
    """
    return seen.mean_over_samples(_power(1 - tversky(seen, plan), 1 / plan.focal_gamma))


def deep_supervision_loss(
    logits: Sequence[torch.Tensor],
    target: torch.Tensor,
    plan: LossPlan,
    meaning: Meaning = CLASSES,
    sum_up: SumUp = alone,
) -> torch.Tensor:
    """The loss at every resolution, against the target at cell centres, weighted and summed.

    `logits` [batch, output, *space] come highest resolution first; `target` is at the highest.
    """
    loss = find_loss(plan.kind)
    total = torch.zeros((), device=target.device)
    for output, weight in zip(logits, supervision_weights(len(logits)), strict=True):
        thin = tuple(
            slice(full // size // 2, None, full // size)  # the voxel at the cell's centre
            for full, size in zip(target.shape[1:], output.shape[2:], strict=True)
        )
        seen = compare(output, target[:, *thin], plan, meaning, sum_up)
        total = total + weight * loss(seen, plan)
    return total


def supervision_weights(outputs: int) -> tuple[float, ...]:
    """Weights of the decoder's outputs: halved per level, together 1.

    nnU-Net v2's trainer does the same, with a further output below them that weighs 0; that one is
    not computed here.
    """
    halves = [0.5**level for level in range(outputs)]
    return tuple(weight / sum(halves) for weight in halves)


def compare(
    logits: torch.Tensor,
    target: torch.Tensor,
    plan: LossPlan,
    meaning: Meaning = CLASSES,
    sum_up: SumUp = alone,
) -> Comparison:
    """Logits [batch, output, *space] beside class indices [batch, *space]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = _voxel_weight(target, plan)
    if not meaning.has_ignored:
        count = torch.full((), target.numel(), device=target.device)
        return Comparison(*_terms(logits, target, target, meaning.regions), count, weight, sum_up)
    annotated = target != IGNORED
    cross_entropy, probability, truth = _terms(logits, target, target * annotated, meaning.regions)
    mask = annotated.to(logits.dtype)[:, None]
    count = annotated.count_nonzero()
    return Comparison(cross_entropy * mask, probability * mask, truth, count, weight, sum_up)


def dice(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """Mean soft Dice, Milletari et al. 2016 (arXiv:1606.04797) with plain sums below the line."""
    return seen.mean_over_samples(_overlap_index(seen, plan, 0.5, 0.5))


def tversky(seen: Comparison, plan: LossPlan) -> torch.Tensor:
    """The Tversky index, Salehi et al. 2017 (arXiv:1706.05721); weights of a half make it Dice."""
    return _overlap_index(seen, plan, plan.false_positive_weight, plan.false_negative_weight)


def _terms(
    logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor, regions: Regions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross-entropy, probability and truth; `known` is the target with 0 for what is ignored."""
    if regions:
        members = [is_any_of(target, region) for region in regions]
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
        true_positive, errors = seen.sum_up(torch.stack((true_positive.sum(0), errors.sum(0))))
    total = 2 * (true_positive + errors) + plan.dice_smooth
    return (2 * true_positive + plan.dice_smooth) / total.clamp_min(SMALLEST_TOTAL)


def _voxel_weight(target: torch.Tensor, plan: LossPlan) -> torch.Tensor | None:
    """How much each voxel's cross-entropy counts [batch, 1, *space]; None: all alike."""
    if plan.class_weights is None and not plan.boundary_weight:
        return None
    weight = torch.ones((), device=target.device)
    if plan.class_weights is not None:
        each = (weight * (target == index) for index, weight in enumerate(plan.class_weights))
        weight = reduce(torch.add, each)
    if plan.boundary_weight:
        weight = weight + plan.boundary_weight * _beside_another(target)
    return weight[:, None]


def _beside_another(target: torch.Tensor) -> torch.Tensor:
    """Whether any of a voxel's neighbours, across faces, edges and corners, is of another class.

    The simplest of weights that draw attention to boundaries, as Ronneberger et al. 2015
    (arXiv:1505.04597) do for gaps between cells. IGNORED neighbours do not count.
    """
    pool = F.max_pool2d if target.ndim == 3 else F.max_pool3d
    value = target.float()[:, None]
    ignored = value == IGNORED
    highest = pool(value.masked_fill(ignored, -1), 3, stride=1, padding=1)
    lowest = -pool((-value).masked_fill(ignored, -IGNORED - 1), 3, stride=1, padding=1)
    return (highest > lowest)[:, 0]


def _power(base: torch.Tensor, exponent: float) -> torch.Tensor:
    return base.clamp_min(SMALLEST_BASE) ** exponent


LOSSES: dict[str, Loss] = {
    "ce_dice": ce_dice,
    "ce_tversky": ce_tversky,
    "topk_dice": topk_dice,
    "focal_dice": focal_dice,
    "focal_tversky": focal_tversky,
}


def find_loss(kind: str) -> Loss:
    """The loss of a kind. Raises AutosegError for one that nobody has installed, or that is not of
    voxels."""
    if kind in LOSSES:
        return LOSSES[kind]
    if kind in (MATCHED, FOUND_BOXES):
        raise AutosegError(f"{kind} is the loss of whole objects. Choose another for this task.")
    extension: Loss = load_extension("autoseg.losses", kind)
    return extension
