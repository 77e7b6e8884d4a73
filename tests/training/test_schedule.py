import math

import pytest
import torch
from pydantic import ValidationError

from autoseg.planning.run_plan import TrainingPlan
from autoseg.training.schedule import Budget, learning_rate
from tests.planning.specified import CPU, Scans, made_up_fingerprint, plan_of


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    fingerprint = made_up_fingerprint(Scans((40, 40, 40), (1, 1, 1), count=50))
    return plan_of(fingerprint, "nnunet", CPU).configurations["3d_fullres"].run.training


def test_the_rate_decays_from_the_plans_to_0(plan: TrainingPlan) -> None:
    assert learning_rate(plan, 0) == plan.learning_rate
    assert learning_rate(plan, 0.5) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(plan, 1) == 0


def test_minutes_follow_the_clock_and_iterations_do_not() -> None:
    assert Budget(seconds=60).fraction(iteration=10**6, elapsed_s=30) == 0.5
    assert Budget(iterations=100).fraction(iteration=25, elapsed_s=10**6) == 0.25
    assert Budget(iterations=100).fraction(iteration=101, elapsed_s=0) == 1


def test_lengths_become_iterations_or_seconds(plan: TrainingPlan) -> None:
    assert Budget().settled(plan) == Budget(iterations=1000 * 250)
    assert Budget(epochs=2).settled(plan) == Budget(iterations=500)
    assert Budget(iterations=7).settled(plan) == Budget(iterations=7)
    assert Budget(seconds=90).settled(plan) == Budget(seconds=90)
    assert [Budget().is_given, Budget(seconds=1).is_given] == [False, True]


@pytest.mark.parametrize("wrong", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("unit", ["epochs", "iterations", "seconds"])
def test_a_length_must_be_a_number_above_0(unit: str, wrong: float) -> None:
    with pytest.raises(ValidationError, match=unit):
        Budget.model_validate({unit: wrong})


def test_a_length_has_one_unit() -> None:
    with pytest.raises(ValidationError, match="only one of epochs, iterations and seconds"):
        Budget(epochs=1, seconds=60)


def test_cosine_decay_is_torchs(plan: TrainingPlan) -> None:
    cosine = plan.model_copy(update={"schedule": "cosine"})
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for step in range(20):
        assert learning_rate(cosine, step / 20) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_the_rate_rises_while_warming_up(plan: TrainingPlan) -> None:
    warm = plan.model_copy(update={"warmup_fraction": 0.2})
    assert learning_rate(warm, 0) == 0
    assert learning_rate(warm, 0.1) == pytest.approx(plan.learning_rate / 2)
    assert learning_rate(warm, 0.2) == plan.learning_rate
    assert learning_rate(warm, 0.6) == pytest.approx(learning_rate(plan, 0.5))
