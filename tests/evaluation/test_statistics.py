"""Covers: statistics, score_arrays."""

import time

import numpy as np
import pytest
from scipy import stats

from autoseg.evaluation.evaluate import with_statistics
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from autoseg.evaluation.statistics import (
    RESAMPLES,
    Counts,
    Floats,
    Method,
    resample_means,
    summarise,
)

SCIPY_NAMES: dict[Method, str] = {"bca": "BCa", "percentile": "percentile"}


def skewed_scores(cases: int, columns: int = 1) -> Floats:
    """Like Dice: most are high, some are low."""
    return np.random.default_rng(1).beta(8, 2, (cases, columns))


def each_its_own(cases: int) -> list[str]:
    return [f"patient_{index:03d}" for index in range(cases)]


@pytest.mark.parametrize("method", SCIPY_NAMES)
def test_intervals_of_independent_cases_are_those_of_scipy(method: Method) -> None:
    scores = skewed_scores(40)
    ends = resample_means(scores, each_its_own(40)).intervals(method)
    theirs = stats.bootstrap(
        (scores[:, 0],), np.mean, n_resamples=20000, method=SCIPY_NAMES[method], rng=0
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ends[:, 0] == pytest.approx(theirs.confidence_interval, abs=0.03 * width)


def test_patients_are_drawn_with_all_their_cases_as_in_a_loop_by_hand() -> None:
    rng = np.random.default_rng(2)
    patients = [f"p{number}" for number in rng.integers(0, 12, 60)]
    of_patient = dict(zip(sorted(set(patients)), rng.normal(0, 1, 12), strict=False))
    scores = np.array([of_patient[p] for p in patients]) + rng.normal(0, 0.1, 60)
    groups = [scores[np.array(patients) == p] for p in sorted(set(patients))]
    drawn = rng.integers(0, len(groups), (8000, len(groups)))
    means = [np.concatenate([groups[index] for index in row]).mean() for row in drawn]
    expected = np.percentile(means, [2.5, 97.5])
    found = resample_means(scores[:, None], patients).intervals("percentile")[:, 0]
    assert found == pytest.approx(expected, abs=0.05 * np.ptp(expected))
    as_if_independent = resample_means(scores[:, None], each_its_own(60)).intervals("percentile")
    assert np.ptp(found) > 1.5 * np.ptp(as_if_independent)


def test_the_acceleration_is_that_of_the_jackknife_over_patients_by_hand() -> None:
    scores, patients = np.array([0.9, 0.8, 0.1, 0.7, 0.95]), ["a", "a", "b", "c", "d"]
    left_out = [np.mean(scores[np.array(patients) != p]) for p in "abcd"]
    found = resample_means(scores[:, None], patients)
    assert found.without_one[:, 0] == pytest.approx(left_out)


def test_means_are_the_same_whatever_the_order_of_cases_and_however_often() -> None:
    scores, patients = skewed_scores(30), each_its_own(30)
    order = np.random.default_rng(0).permutation(30)
    first = resample_means(scores, patients).intervals()
    again = resample_means(scores[order], [patients[index] for index in order]).intervals()
    assert again == pytest.approx(first)


def test_scores_that_are_not_defined_are_left_out_and_counted() -> None:
    scores = np.array([[0.5, np.nan], [np.nan, np.nan], [0.9, 0.2], [0.7, np.nan]])
    first, second = summarise(scores, np.nan_to_num(scores), resample_means(scores, list("aabc")))
    assert (first.defined, first.patients) == (3, 3)
    assert first.mean == pytest.approx(0.7)
    assert first.penalised_mean == pytest.approx(0.525)
    assert first.standard_deviation == pytest.approx(np.std([0.5, 0.9, 0.7], ddof=1))
    assert first.interval_95 is not None
    assert (second.mean, second.median, second.interval_95) == (0.2, 0.2, None)
    assert second.standard_deviation is None


def test_percentiles_are_numpys() -> None:
    scores = skewed_scores(37, 2)
    scores[:5, 1] = np.nan
    for column, found in enumerate(
        summarise(scores, scores, resample_means(scores, list("a" * 37)))
    ):
        known = scores[:, column][~np.isnan(scores[:, column])]
        expected = np.percentile(known, [5, 25, 50, 75, 95])
        assert [
            found.percentile_5, found.percentile_25, found.median,
            found.percentile_75, found.percentile_95,
        ] == pytest.approx(list(expected))  # fmt: skip


def test_scores_that_are_all_alike_have_no_width() -> None:
    ends = resample_means(np.full((9, 1), 0.8), each_its_own(9)).intervals()
    assert ends[:, 0] == pytest.approx([0.8, 0.8])


def test_thirty_metrics_of_three_classes_in_200_cases_take_well_under_a_second() -> None:
    scores = np.random.default_rng(0).random((200, 3, 30))
    started = time.process_time()
    means = resample_means(scores, each_its_own(200))
    summarise(scores.reshape(200, 90), scores.reshape(200, 90), means.flattened())
    means.over_classes().intervals()
    assert len(means.resampled) == RESAMPLES >= 2000
    assert time.process_time() - started < 0.9


def evaluation_of(cases: dict[str, dict[str, float | None]]) -> Evaluation:
    """An evaluation of Dice by case and class."""
    classes = dict.fromkeys(name for case in cases.values() for name in case)
    counts = dict.fromkeys(classes, Counts(cases=0, both_empty=0, missed=0, hallucinated=0))
    metrics = metric_notes(("dice",))
    scores = {c: {name: {"dice": d} for name, d in case.items()} for c, case in cases.items()}
    return with_statistics(
        Evaluation(mean={}, classes={}, cases=scores, counts=counts, metrics=dict(metrics))
    )


def test_the_mean_over_classes_is_that_of_their_means_and_its_interval_too() -> None:
    dice = np.random.default_rng(3).beta(5, 2, (12, 2))
    names = each_its_own(12)
    cases: dict[str, dict[str, float | None]] = {
        name: {"1": float(a), "2": float(b)} for name, (a, b) in zip(names, dice, strict=True)
    }
    cases["patient_000"]["2"] = None
    found = evaluation_of(cases)
    expected = (dice[:, 0].mean() + dice[1:, 1].mean()) / 2
    assert found.mean["dice"] == pytest.approx(expected)

    def mean_of(rows: np.ndarray) -> float:
        second = dice[rows[rows != 0], 1]
        return float((dice[rows, 0].mean() + second.mean()) / 2)

    drawn = np.random.default_rng(4).integers(0, 12, (8000, 12))
    ends = np.percentile([mean_of(row) for row in drawn], [2.5, 97.5])
    interval = found.mean_statistics["dice"].interval_95
    assert interval == pytest.approx(tuple(ends), abs=0.2 * np.ptp(ends))  # ours is BCa
