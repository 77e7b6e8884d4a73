import pytest

from autoseg.cli.reasons import explain_screen, find_decisions
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Plan
from tests.planning.specified import Scans, gpu, made_up_fingerprint, plan_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(made_up_fingerprint(Scans((60, 60, 60), (1, 1, 1))), "default", gpu(8))


@pytest.mark.parametrize(
    ("key", "rule", "value"),
    [
        ("training.epochs", "training.small_dataset", 500),
        ("loss.kind", "loss.ce_dice", "ce_dice"),
        ("3d_fullres.loss.batch_dice", "batch_dice.large_patch", False),
        ("grid.normalization.0.kind", "normalization.zscore", "zscore"),
        ("inference.step_fraction", "inference.published", 0.5),
    ],
)
def test_keys_that_can_be_set_are_explained_by_the_decision_they_belong_to(
    plan: Plan, key: str, rule: str, value: object
) -> None:
    decision = find_decisions(plan, key)[-1]
    assert (decision.rule_id, decision.value) == (rule, value)
    assert key.removeprefix("3d_fullres.") in explain_screen([decision], in_full=True)


def test_what_was_set_by_hand_is_explained_before_what_the_rules_had_said(plan: Plan) -> None:
    by_hand = with_settings(plan, ["3d_fullres.training.epochs=7"], family_of)
    first, second = find_decisions(by_hand, "3d_fullres.training.epochs")
    assert (first.value, first.rule_id) == (7, "set.by_hand")
    assert (second.name, second.value["epochs"]) == ("training", 500)


def test_an_unknown_key_is_answered_with_the_nearest_decision(plan: Plan) -> None:
    with pytest.raises(AutosegError, match=r"trainin: .* Did you mean training"):
        find_decisions(plan, "trainin")
    with pytest.raises(AutosegError, match=r"training\.epoch: the plan has no such decision"):
        find_decisions(plan, "training.epoch")
