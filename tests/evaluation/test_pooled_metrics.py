"""Intervals against scipy's bootstrap, which puts scans into a list as often as they are drawn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from autoseg.evaluation.detection import average_precision_50, detections_of
from autoseg.evaluation.evaluation import Evaluation, metric_notes
from autoseg.evaluation.metrics import ClassScores
from autoseg.evaluation.pooled_metrics import with_pooled
from tests.evaluation.test_detection import once, random_pair
from tests.evaluation.test_objects import pair_of

SCANS = [detections_of(random_pair(seed)) for seed in range(8)]
AP50 = average_precision_50(SCANS, once(SCANS))[0]


def with_pooled_of(patients: list[str]) -> Evaluation:
    """Of a class that is in every scan, and one that is in none."""
    nowhere = np.zeros((1, 2, 2), bool)
    none = detections_of(pair_of(nowhere, nowhere))
    cases = {str(number): scan for number, scan in enumerate(SCANS)}
    by_case = {
        case_id: {
            "a": ClassScores({"ap50": None}, {}, (1, 1), scan),
            "b": ClassScores({"ap50": None}, {}, (0, 0), none),
        }
        for case_id, scan in cases.items()
    }
    evaluation = Evaluation(
        mean={}, classes={"a": {}, "b": {}}, cases={}, metrics=dict(metric_notes(("ap50",))),
        patients=dict(zip(cases, patients, strict=True)),
    )  # fmt: skip
    return with_pooled(evaluation, by_case)


def test_intervals_are_those_of_scipy() -> None:
    found = with_pooled_of([f"patient {number}" for number in range(8)])

    def precision(drawn: NDArray[np.intp]) -> Any:
        scans = [SCANS[index] for index in drawn]
        return average_precision_50(scans, once(scans))[0]

    expected = bootstrap((np.arange(8),), precision, vectorized=False, n_resamples=2000, rng=0)
    ends = expected.confidence_interval
    assert found.classes["a"]["ap50"] == pytest.approx(AP50)
    assert found.pooled_intervals["a"]["ap50"] == pytest.approx((ends.low, ends.high), abs=0.02)


def test_scans_of_one_patient_are_drawn_together() -> None:
    apart = with_pooled_of([str(number) for number in range(8)]).interval_95("a", "ap50")
    together = with_pooled_of(["x"] * 7 + ["y"]).interval_95("a", "ap50")
    assert apart and together and together[1] - together[0] < apart[1] - apart[0]
    assert with_pooled_of(["x"] * 8).interval_95("a", "ap50") is None


def test_a_class_that_is_nowhere_has_no_value_and_counts_in_no_mean() -> None:
    found = with_pooled_of([str(number) for number in range(8)])
    assert found.classes["b"]["ap50"] is None and not found.pooled_intervals["b"]
    assert found.mean["ap50"] == pytest.approx(AP50)
    assert found.interval_95(None, "ap50") == pytest.approx(found.interval_95("a", "ap50"))
