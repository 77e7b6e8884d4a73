"""How scores look."""

import pytest

from autoseg.cli.scores import comparison_screen, evaluation_screen, metrics_screen
from autoseg.evaluation.comparison import Comparison, Difference, side_by_side
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import METRICS
from tests.evaluation.test_statistics import evaluation_of

DICE = {"a": 0.9, "b": 0.25, "c": 0.8, "d": 0.5, "e": 0.7}


@pytest.fixture
def evaluation() -> Evaluation:
    found = evaluation_of({case: {"1": dice, "2": 0.95} for case, dice in DICE.items()})
    return found.model_copy(update={"names": {"1": "[b]liver"}})


def test_each_class_has_its_mean_with_an_interval(evaluation: Evaluation) -> None:
    lines = evaluation_screen(evaluation).splitlines()
    low, high = evaluation.statistics["1"]["dice"].interval_95 or (0, 0)
    assert lines[1].split("  ")[1:3] == ["1 [b]liver", f"0.6300 [{low:.4f}, {high:.4f}]"]
    assert lines[3].split()[:2] == ["mean", "0.7900"]


def test_the_three_worst_cases_are_named(evaluation: Evaluation) -> None:
    worst = "lowest Dice: b 0.2500 (1 [b]liver), d 0.5000 (1 [b]liver), e 0.7000 (1 [b]liver)"
    assert worst in evaluation_screen(evaluation)


def test_scores_of_an_older_autoseg_are_shown_without_intervals() -> None:
    score: dict[str, float | None] = {"dice": 0.5, "volume_ml": 3.0}
    older = Evaluation(mean={"dice": 0.5}, classes={"1": score}, cases={"a": {"1": score}})
    assert [line.split() for line in evaluation_screen(older).splitlines()[1:4]] == [
        ["1", "0.5000"], ["mean", "0.5000"], ["1", "case"],
    ]  # fmt: skip


def test_comparisons_say_how_much_and_how_sure(evaluation: Evaluation) -> None:
    better = evaluation_of({case: {"1": dice + 0.05, "2": 0.95} for case, dice in DICE.items()})
    (comparison,) = side_by_side({"old": evaluation, "new": better}).comparisons
    lines = comparison_screen(comparison, evaluation).splitlines()
    assert lines[0] == "new less old, in 5 cases of both:"
    assert lines[2].split() == ["1", "[b]liver", "Dice", "+0.0500", "[0.0500,", "0.0500]", "0.062"]
    assert lines[3].split()[-1] == "-"


def test_all_metrics_are_listed() -> None:
    lines = metrics_screen().splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)


def test_differences_of_what_looks_at_all_scans_together_are_told_apart(
    evaluation: Evaluation,
) -> None:
    found = Difference(cases=5, patients=5, mean=0.1, interval_95=None, wilcoxon_p=0.1)
    comparison = Comparison(
        first="old", other="new", cases=("a",), mean={"ap50": found}, classes={"1": {"ap50": found}}
    )
    scores: dict[str, float | None] = {"ap50": 0.5}
    pooled = evaluation.model_copy(update={"classes": {"1": scores}})
    last = comparison_screen(comparison, pooled, ["ap50"]).splitlines()[-1]
    assert last == "ap50: of all scans together above, the mean of single scans here."
