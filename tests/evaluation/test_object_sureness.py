"""Covers: postprocessing.sureness."""

import numpy as np
import pytest

from autoseg.evaluation.object_sureness import JudgedObjects, calibration_error, learned_sureness
from autoseg.postprocessing.sureness import ObjectSureness


def judged(count: int, seed: int = 0) -> tuple[JudgedObjects, np.ndarray]:
    """Objects that are right as often as logit(p) = -1 + 0.5 logit(score) says, and that p."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 0.95, count)
    p = 1 / (1 + np.exp(1 - 0.5 * np.log(scores / (1 - scores))))
    right = rng.uniform(size=count) < p
    return JudgedObjects("cell", scores, right, np.arange(count) % 5), p


def learned(count: int) -> ObjectSureness:
    found = learned_sureness({7: judged(count)[0]}, 5, 0.5)
    assert found is not None
    return found


def test_the_line_that_made_the_data_is_found_again() -> None:
    (line,) = learned(40_000).classes
    assert (line.intercept, line.slope) == pytest.approx((-1, 0.5), abs=0.05)
    assert line.error < 0.02 < line.error_of_scores


def test_the_line_is_the_likeliest_one() -> None:
    """There right less probable adds up to nothing, also by logits of scores; but for the little by
    which targets are drawn in."""
    seen, _ = judged(400)
    (line,) = learned(400).classes
    logits = np.log(seen.scores / (1 - seen.scores))
    off = seen.right - 1 / (1 + np.exp(-line.intercept - line.slope * logits))
    assert abs(off.mean()) < 6e-3 and abs((off * logits).mean()) < 6e-3


def test_objects_of_unknown_classes_and_without_scores_have_no_probability() -> None:
    found = learned(400)
    sure = found.probability(7, 0.9)
    assert sure is not None and 0 < (found.probability(7, 0.1) or 0) < sure < 1
    assert found.probability(8, 0.9) is None and found.probability(7, None) is None


@pytest.mark.parametrize("right", [np.ones(50, bool), np.zeros(50, bool), np.ones(3, bool)])
def test_too_few_or_all_alike_teach_nothing(right: np.ndarray) -> None:
    seen = JudgedObjects("cell", np.linspace(0.1, 0.9, len(right)), right, np.arange(len(right)))
    assert learned_sureness({1: seen}, 5, 0.5) is None


def test_without_a_part_to_leave_out_nothing_is_learned() -> None:
    seen = judged(60)[0]
    alone = JudgedObjects("cell", seen.scores, seen.right, np.zeros(60, np.int64))
    assert learned_sureness({1: alone}, 1, 0.5) is None


def test_the_error_is_the_mean_distance_of_share_and_probability() -> None:
    p = np.repeat([0.2, 0.8], 50)
    right = np.concatenate((np.arange(50) < 20, np.arange(50) < 40))  # 0.4 and 0.8 of them
    rng = np.random.default_rng(0)
    order = np.concatenate((rng.permutation(50), 50 + rng.permutation(50)))
    assert calibration_error(p, right) >= 0.1  # groups of ten see more
    assert calibration_error(p[order], np.repeat([0.4, 0.8], 50)) == pytest.approx(0.1)
