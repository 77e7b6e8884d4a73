"""Several predictions of the same cases are compared case by case."""

import numpy as np
import pytest
from scipy import stats

from autoseg.errors import AutosegError
from autoseg.evaluation.comparison import side_by_side
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from tests.evaluation.test_statistics import evaluation_of

CASES = [f"case_{index:02d}" for index in range(25)]


@pytest.fixture
def dice() -> np.ndarray:
    """Of three predictions, the later ones a little better [prediction, case]."""
    rng = np.random.default_rng(0)
    first = rng.beta(8, 2, 25)
    return np.stack([first, first + rng.normal(0.02, 0.02, 25), first + rng.normal(0, 0.1, 25)])


def of_one_class(dice: np.ndarray) -> Evaluation:
    return evaluation_of({c: {"1": float(d)} for c, d in zip(CASES, dice, strict=True)})


def test_differences_and_p_are_those_of_scipy(dice: np.ndarray) -> None:
    found = side_by_side({name: of_one_class(row) for name, row in zip("abc", dice, strict=True)})
    assert [(one.first, one.other) for one in found.comparisons] == [("a", "b"), ("a", "c")]
    for comparison, row in zip(found.comparisons, dice[1:], strict=True):
        difference, expected = comparison.classes["1"]["dice"], row - dice[0]
        assert difference.mean == pytest.approx(expected.mean())
        theirs = stats.bootstrap((expected,), np.mean, n_resamples=20000, method="BCa", rng=0)
        ends = tuple(theirs.confidence_interval)
        assert difference.interval_95 == pytest.approx(ends, abs=0.03 * np.ptp(ends))
        assert difference.wilcoxon_p == pytest.approx(stats.wilcoxon(row, dice[0]).pvalue)
        assert comparison.mean["dice"] == difference


def test_only_cases_that_all_have_are_compared(dice: np.ndarray) -> None:
    a, b = of_one_class(dice[0]), of_one_class(dice[1])
    part = evaluation_of({c: {"1": float(d)} for c, d in zip(CASES[5:], dice[2][5:], strict=True)})
    for comparison in side_by_side({"a": a, "b": b, "c": part}).comparisons:
        assert comparison.cases == tuple(CASES[5:])
    other = evaluation_of({"elsewhere": {"1": 0.5}})
    with pytest.raises(AutosegError, match="no case is in all of them"):
        side_by_side({"a": a, "other": other})


def test_several_scans_of_a_patient_are_one_difference_for_the_test(dice: np.ndarray) -> None:
    patients = {case: f"p{index // 5}" for index, case in enumerate(CASES)}
    a, b = (of_one_class(row).model_copy(update={"patients": patients}) for row in dice[:2])
    (comparison,) = side_by_side({"a": a, "b": b}).comparisons
    found = comparison.classes["1"]["dice"]
    by_patient = (dice[1] - dice[0]).reshape(5, 5).mean(axis=1)
    assert (found.cases, found.patients) == (25, 5)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(by_patient).pvalue)


def test_of_volumes_the_distance_from_zero_is_compared() -> None:
    def of(volumes: list[float]) -> Evaluation:
        one = evaluation_of({c: {"1": 0.5} for c in CASES[:3]})
        scores = {
            c: {"1": {"volume_difference_ml": v}} for c, v in zip(CASES, volumes, strict=False)
        }
        metrics = dict(metric_notes(("volume_difference_ml",)))
        return one.model_copy(update={"cases": scores, "metrics": metrics})

    (comparison,) = side_by_side({"a": of([-3, -3, -3]), "b": of([1, 1, 1])}).comparisons
    assert comparison.classes["1"]["volume_difference_ml"].mean == pytest.approx(-2)


def test_the_same_masks_do_not_differ(dice: np.ndarray) -> None:
    found = side_by_side({"a": of_one_class(dice[0]), "b": of_one_class(dice[0])})
    difference = found.comparisons[0].classes["1"]["dice"]
    assert (difference.mean, difference.wilcoxon_p) == (0, None)
    assert difference.interval_95 == (0, 0)
