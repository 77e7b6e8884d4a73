import pytest
import torch

from autoseg.errors import AutosegError
from autoseg.planning.plan import TrainingPlan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set
from autoseg.training.schedule import Budget, Length, learning_rate, make_budget
from tests.planning.specified import CPU, Scans, made_up_fingerprint


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    made = make_plan(
        made_up_fingerprint(Scans((40, 40, 40), (1, 1, 1), count=50)), load_rule_set("nnunet"), CPU
    )
    return made.configurations["3d_fullres"].training


def test_the_rate_decays_from_the_plans_to_0(plan: TrainingPlan) -> None:
    assert learning_rate(plan, 0) == plan.learning_rate
    assert learning_rate(plan, 0.5) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(plan, 1) == 0


def test_minutes_follow_the_clock_and_iterations_do_not() -> None:
    assert Budget(seconds=60).fraction(iteration=10**6, elapsed_s=30) == 0.5
    assert Budget(iterations=100).fraction(iteration=25, elapsed_s=10**6) == 0.25
    assert Budget(iterations=100).fraction(iteration=101, elapsed_s=0) == 1


def test_lengths_become_budgets(plan: TrainingPlan) -> None:
    assert make_budget(plan, Length()).iterations == 1000 * 250
    assert make_budget(plan, Length(epochs=2)).iterations == 500
    assert make_budget(plan, Length(iterations=7)).iterations == 7
    assert make_budget(plan, Length(minutes=1.5)).seconds == 90
    assert make_budget(plan, Length(hours=2)).seconds == 7200


def test_a_length_must_be_positive(plan: TrainingPlan) -> None:
    with pytest.raises(AutosegError, match="--minutes 0: must be a number above 0"):
        make_budget(plan, Length(minutes=0))


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
