import itertools
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from autoseg.dataset.labels import IGNORED
from autoseg.planning.run_plan import BUILT_IN_LOSSES, LossKind, LossPlan
from autoseg.tasks.losses import (
    FOUND_BOXES,
    LOSSES,
    MATCHED,
    Meaning,
    compare,
    deep_supervision_loss,
    find_loss,
    supervision_weights,
)

Floats = NDArray[np.floating[Any]]

OF_OBJECTS = {MATCHED, FOUND_BOXES}
KINDS: tuple[LossKind, ...] = tuple(k for k in get_args(LossKind) if k not in OF_OBJECTS)
REGIONS = ((1, 2), (2,), (0, 3))  # for four classes; overlapping, and with the background
Regions = tuple[tuple[int, ...], ...]
VARIANTS: dict[str, dict[str, Any]] = {
    "sample by sample": {},
    "over the batch": {"batch_dice": True},
    "smoothed": {"dice_smooth": 1.0},
    "class weights": {"class_weights": (0.5, 1.0, 2.0, 4.0)},
    "boundaries": {"boundary_weight": 3.0, "class_weights": (0.5, 1.0, 2.0, 4.0)},
    "regions": {"regions": REGIONS},
    "regions over the batch": {
        "regions": REGIONS,
        "batch_dice": True,
        "class_weights": (1, 2, 3, 4),
    },
}


def loss_plan(kind: LossKind, **changes: Any) -> LossPlan:
    constants = {
        "batch_dice": False,
        "dice_smooth": 1e-5,
        "false_positive_weight": 0.3,
        "false_negative_weight": 0.7,
        "focal_gamma": 4 / 3,
        "top_k_fraction": 0.25,
    }
    return LossPlan.model_validate({"kind": kind, **constants, **changes})


def random_batch(ignoring: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of four classes, or of three regions in the first three, and what is true."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 4, 3, 4, 5, generator=generator, dtype=torch.double)
    target = torch.randint(0, 4, (3, 3, 4, 5), generator=generator, dtype=torch.uint8)
    if ignoring:
        target[0] = IGNORED
        target[1:, :, 1:3] = IGNORED
    return logits, target


def loss_of(
    logits: torch.Tensor, target: torch.Tensor, plan: LossPlan, regions: Regions = ()
) -> torch.Tensor:
    return find_loss(plan.kind)(compare(logits, target, plan, Meaning(regions)), plan)


def outputs_of(regions: Regions, logits: torch.Tensor) -> torch.Tensor:
    return logits[:, : len(regions)] if regions else logits


def beside_another(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a neighbour of each voxel is of another class, by its definition."""
    beside = np.zeros(target.shape, bool)
    for voxel in np.ndindex(target.shape):
        around = target[tuple(slice(max(0, v - 1), v + 2) for v in voxel)]
        beside[voxel] = len(np.unique(around[around != IGNORED])) > 1
    return beside


class Reference:
    """The losses by their definitions: one class, one sample, one voxel after the other."""

    def __init__(
        self, logits: torch.Tensor, target: torch.Tensor, plan: LossPlan, regions: Regions
    ) -> None:
        self.plan, self.regions = plan, regions
        samples, outputs = logits.shape[:2]
        x = logits.numpy().reshape(samples, outputs, -1)
        self.target = target.numpy().reshape(samples, -1)
        self.beside = np.stack([beside_another(t) for t in target.numpy()]).reshape(samples, -1)
        self.groups = regions or tuple((index,) for index in range(outputs))
        if regions:
            self.probability = 1 / (1 + np.exp(-x))
        else:
            self.probability = np.exp(x) / np.exp(x).sum(1, keepdims=True)

    def truth_probabilities(self) -> tuple[Floats, Floats]:
        """The probability given to the truth, and the weight, of all annotated voxels."""
        found = []
        for sample, voxel in zip(*np.nonzero(self.target != IGNORED), strict=True):
            index = self.target[sample, voxel]
            weight = (self.plan.class_weights or [1] * 4)[index]
            weight += self.plan.boundary_weight * self.beside[sample, voxel]
            p = self.probability[sample, :, voxel]
            if self.regions:
                for output, group in enumerate(self.groups):
                    found.append((p[output] if index in group else 1 - p[output], weight))
            else:
                found.append((p[index], weight))
        probabilities, weights = np.array(found).T
        return probabilities, weights

    def overlap(self, false_positive_weight: float, false_negative_weight: float) -> Floats:
        counts = []
        for sample, output in np.ndindex(self.probability.shape[:2]):
            if output == 0 and not self.regions:
                continue
            annotated = self.target[sample] != IGNORED
            p = self.probability[sample, output][annotated]
            t = np.isin(self.target[sample][annotated], self.groups[output])
            counts.append((p[t].sum(), p[~t].sum(), (1 - p[t]).sum()))
        sums = np.reshape(counts, (len(self.target), -1, 3))
        if self.plan.batch_dice:
            sums = sums.sum(0, keepdims=True)
        hits, false_alarms, misses = np.moveaxis(sums, -1, 0)
        errors = false_positive_weight * false_alarms + false_negative_weight * misses
        smooth = self.plan.dice_smooth / 2
        return np.asarray((hits + smooth) / (hits + errors + smooth))

    def loss(self) -> float:
        p, weights = self.truth_probabilities()
        dice = self.overlap(0.5, 0.5).mean()
        tversky = self.overlap(self.plan.false_positive_weight, self.plan.false_negative_weight)
        entropies = -np.log(p) * weights
        gamma = self.plan.focal_gamma
        most = int(self.plan.top_k_fraction * len(entropies))
        values = {
            "ce_dice": entropies.mean() - dice,
            "ce_tversky": entropies.mean() - tversky.mean(),
            "topk_dice": np.sort(entropies)[-most:].mean() - dice,
            "focal_dice": ((1 - p) ** gamma * entropies).mean() - dice,
            "focal_tversky": ((1 - tversky + 1e-12) ** (1 / gamma)).mean(),
        }
        return float(values[self.plan.kind])


def test_the_table_has_every_kind() -> None:
    assert {*LOSSES, *OF_OBJECTS} == set(BUILT_IN_LOSSES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ignoring", [False, True])
def test_losses_are_what_their_definitions_say(
    kind: LossKind, variant: str, ignoring: bool
) -> None:
    changes = dict(VARIANTS[variant])
    regions: Regions = changes.pop("regions", ())
    plan = loss_plan(kind, **changes)
    logits, target = random_batch(ignoring)
    logits = outputs_of(regions, logits)
    expected = Reference(logits, target, plan, regions).loss()
    tolerance = 1e-4 if ignoring and kind == "focal_tversky" else 1e-10  # its base has a floor
    assert float(loss_of(logits, target, plan, regions)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regions", [(), REGIONS])
@pytest.mark.parametrize("ignoring", [False, True])
def test_gradients_are_those_of_finite_differences(
    kind: LossKind, regions: Regions, ignoring: bool
) -> None:
    plan = loss_plan(kind, class_weights=(0.5, 1.0, 2.0, 4.0))
    logits, target = random_batch(ignoring)
    logits = outputs_of(regions, logits)[..., :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss_of(x, target[..., :2], plan, regions), logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regions", [(), REGIONS])
def test_ignored_voxels_have_no_gradient(kind: LossKind, regions: Regions) -> None:
    plan = loss_plan(kind)
    logits, target = random_batch(ignoring=True)
    logits = outputs_of(regions, logits).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(logits, target, plan, regions), logits)
    ignored = (target == IGNORED)[:, None].expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regions", [(), REGIONS])
@pytest.mark.parametrize("smooth", [0.0, 1e-5])
def test_a_batch_that_nobody_annotated_teaches_nothing(
    kind: LossKind, regions: Regions, smooth: float
) -> None:
    plan = loss_plan(kind, dice_smooth=smooth)
    logits, target = random_batch(ignoring=False)
    logits = outputs_of(regions, logits).requires_grad_()
    loss = loss_of(logits, torch.full_like(target, IGNORED), plan, regions)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert (gradient == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regions", [(), REGIONS])
def test_a_perfect_prediction_has_the_lowest_loss(kind: LossKind, regions: Regions) -> None:
    plan = loss_plan(kind)
    _, target = random_batch(ignoring=True)
    groups = regions or tuple((index,) for index in range(4))
    truth = torch.stack([torch.isin(target, torch.tensor(group)) for group in groups], 1)
    logits = (100.0 * truth - 50.0).requires_grad_()
    loss = loss_of(logits, target, plan, regions)
    (gradient,) = torch.autograd.grad(loss, logits)
    lowest = 0.0 if kind == "focal_tversky" else -1.0
    assert loss.item() == pytest.approx(lowest, abs=1e-4)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("ignoring", [False, True])
def test_tversky_with_equal_weights_is_dice(ignoring: bool) -> None:
    logits, target = random_batch(ignoring)
    plan = loss_plan("ce_tversky", false_positive_weight=0.5, false_negative_weight=0.5)
    dice = loss_plan("ce_dice")
    assert loss_of(logits, target, plan) == loss_of(logits, target, dice)


def test_cross_entropy_is_torchs() -> None:
    logits, target = random_batch(ignoring=True)
    without_dice = loss_of(logits, target, loss_plan("ce_dice", dice_smooth=1e12)) + 1
    expected = F.cross_entropy(logits, target.long(), ignore_index=IGNORED)
    assert float(without_dice) == pytest.approx(float(expected), abs=1e-9)


def test_half_precision_is_computed_in_single() -> None:
    logits, target = random_batch(ignoring=False)
    half = logits.bfloat16()
    loss = loss_of(half, target, loss_plan("ce_dice"))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, loss_of(half.float(), target, loss_plan("ce_dice")))


def test_supervision_weights_halve_and_sum_to_one() -> None:
    assert supervision_weights(1) == (1.0,)
    weights = supervision_weights(4)
    assert sum(weights) == pytest.approx(1)
    assert [a / b for a, b in itertools.pairwise(weights)] == [2, 2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_lower_resolutions_see_the_target_at_cell_centres(kind: LossKind) -> None:
    torch.manual_seed(0)
    target = torch.randint(0, 2, (1, 8, 8, 8), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.1] = IGNORED
    high, low = torch.randn(1, 2, 8, 8, 8), torch.randn(1, 2, 8, 4, 4)
    centres = F.interpolate(target[None].float(), size=(8, 4, 4), mode="nearest-exact")[0].long()
    plan = loss_plan(kind)
    expected = 2 / 3 * loss_of(high, target, plan) + 1 / 3 * loss_of(low, centres, plan)
    found = deep_supervision_loss([high, low], target, plan)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
