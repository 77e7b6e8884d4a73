import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autoseg.losses import ce_dice, deep_supervision_loss, supervision_weights
from autoseg.planning.plan import LossPlan


def plan(batch_dice: bool = False, smooth: float = 1e-5) -> LossPlan:
    return LossPlan(kind="ce_dice", batch_dice=batch_dice, dice_smooth=smooth)


def numpy_soft_dice(
    probability: np.ndarray, target: np.ndarray, batch_dice: bool, smooth: float
) -> float:
    """Soft Dice by its definition, one class and one sample at a time."""
    values = []
    samples = [slice(None)] if batch_dice else [slice(b, b + 1) for b in range(len(target))]
    for sample in samples:
        for c in range(1, probability.shape[1]):
            p, t = probability[sample, c], target[sample] == c
            values.append((2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth))
    return float(np.mean(values))


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_ce_dice_is_cross_entropy_minus_dice(batch_dice: bool, smooth: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, 7) * 3
    target = torch.randint(0, 4, (3, 5, 6, 7), dtype=torch.uint8)
    expected = float(F.cross_entropy(logits, target.long())) - numpy_soft_dice(
        logits.softmax(1).numpy().astype(float), target.numpy(), batch_dice, smooth
    )
    assert float(ce_dice(logits, target, plan(batch_dice, smooth))) == pytest.approx(
        expected, abs=1e-5
    )


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # stay in double
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, dtype=torch.double, requires_grad=True)
    target = torch.randint(0, 3, (2, 3, 4))
    assert torch.autograd.gradcheck(lambda x: ce_dice(x, target, plan()), logits)


def test_supervision_weights_halve_and_sum_to_one() -> None:
    assert supervision_weights(1) == (1.0,)
    weights = supervision_weights(4)
    assert sum(weights) == pytest.approx(1)
    assert [a / b for a, b in itertools.pairwise(weights)] == [2, 2, 2]


def test_lower_resolutions_see_the_target_at_cell_centres() -> None:
    torch.manual_seed(0)
    target = torch.randint(0, 2, (1, 8, 8, 8))
    high, low = torch.randn(1, 2, 8, 8, 8), torch.randn(1, 2, 8, 4, 4)
    centres = F.interpolate(target[None].float(), size=(8, 4, 4), mode="nearest-exact")[0].long()
    expected = 2 / 3 * ce_dice(high, target, plan()) + 1 / 3 * ce_dice(low, centres, plan())
    found = deep_supervision_loss([high, low], target, plan())
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_a_perfect_prediction_has_the_lowest_loss() -> None:
    target = torch.randint(0, 3, (2, 6, 6, 6))
    logits = F.one_hot(target, 3).movedim(-1, 1).float() * 50
    assert float(ce_dice(logits, target, plan())) == pytest.approx(-1, abs=1e-4)
