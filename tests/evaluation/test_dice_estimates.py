import numpy as np
import pytest
from scipy.special import expit, logit

from autoseg.evaluation.dice_estimates import Observations, calibrate, cross_estimates


def made_up(count: int = 200, folds: int = 5, scatter: float = 0.3, seed: int = 0) -> Observations:
    """Masks whose Dice follows soft Dice by a line between logits, -1.5 + 1.4 x, and scatters."""
    rng = np.random.default_rng(seed)
    is_spoilt = np.arange(count) % 2 == 1
    soft = np.where(is_spoilt, rng.uniform(0.3, 0.9, count), rng.uniform(0.85, 0.97, count))
    dice = expit(-1.5 + 1.4 * logit(soft) + scatter * rng.standard_normal(count))
    return Observations(soft, dice, np.arange(count) % folds, is_spoilt, np.ones(count, bool))


def test_the_line_that_masks_follow_is_found() -> None:
    model = calibrate({"a": made_up(scatter=0)})
    assert model is not None
    (found,) = model.classes
    assert (found.intercept, found.slope) == pytest.approx((-1.5, 1.4), abs=1e-3)
    assert found.error == 0
    assert (found.cases, model.folds) == (100, 5)


def test_errors_are_those_of_folds_that_were_left_out() -> None:
    seen = made_up(count=60, folds=3)
    strange = np.where(seen.fold == 0, 0.1, seen.dice)  # one model is far worse than it seems
    seen = Observations(seen.expected_dice, strange, seen.fold, seen.is_spoilt, seen.has_class)
    estimates = cross_estimates(seen)
    honest = expit(-1.5 + 1.4 * logit(seen.expected_dice[seen.fold == 0]))
    np.testing.assert_allclose(estimates[seen.fold == 0], honest, atol=0.06)
    model = calibrate({"a": seen})
    assert model is not None and model.classes[0].error > 0.2


def test_nine_of_ten_new_masks_lie_in_the_interval() -> None:
    model = calibrate({"a": made_up(count=1000)})
    assert model is not None
    new = made_up(count=1000, seed=1)
    low, high = model.classes[0].interval(model.classes[0].estimate(new.expected_dice))
    assert ((new.dice >= low) & (new.dice <= high)).mean() == pytest.approx(0.9, abs=0.03)


def test_one_in_twenty_held_out_masks_is_called_doubtful() -> None:
    seen = made_up()
    model = calibrate({"a": seen})
    assert model is not None
    estimates = model.classes[0].estimate(seen.expected_dice[~seen.is_spoilt])
    assert (estimates < model.classes[0].doubtful_below).mean() == pytest.approx(0.05, abs=0.01)


def test_estimates_grow_with_soft_dice_whatever_was_seen() -> None:
    seen = made_up()
    turned = Observations(
        seen.expected_dice, 1 - seen.dice, seen.fold, seen.is_spoilt, seen.has_class
    )
    model = calibrate({"a": turned})
    assert model is not None
    assert (np.diff(model.classes[0].estimate(np.linspace(0.01, 0.98, 50))) > 0).all()


def test_a_class_of_few_masks_has_no_estimate() -> None:
    few = made_up(count=18)
    assert calibrate({"a": few}) is None
    model = calibrate({"a": few, "b": made_up()})
    assert model is not None and [c.name for c in model.classes] == ["b"]


def test_in_a_single_fold_cases_are_left_out_with_their_spoilt_copies() -> None:
    cases = 13
    case = np.append(np.arange(cases), np.arange(cases - 2))
    known = np.full(len(case), 0.9)
    is_spoilt = np.arange(len(case)) >= cases
    seen = Observations(known, known, np.zeros(len(case), np.int64), is_spoilt, known > 0)
    groups = [set(seen.groups[case == one].tolist()) for one in range(cases)]
    assert all(len(group) == 1 for group in groups) and len(set.union(*groups)) == 5


def test_a_class_of_one_fold_alone_is_left_out_in_parts_as_in_a_single_fold() -> None:
    """Else there is nothing to learn its line from, and soft Dice is taken as it is."""
    one = made_up(count=60, folds=1)
    nothing = np.full(30, np.nan)
    seen = Observations(
        np.append(one.expected_dice, nothing),
        np.append(one.dice, nothing),
        np.repeat([0, 1], [60, 30]),
        np.append(one.is_spoilt, np.zeros(30, bool)),
        np.append(one.has_class, np.zeros(30, bool)),
    )
    np.testing.assert_array_equal(cross_estimates(seen)[:60], cross_estimates(one))


def test_empty_masks_and_a_single_fold_are_no_hindrance() -> None:
    seen = made_up(count=100, folds=1)
    seen.expected_dice[:10] = np.nan
    seen.dice[90:] = np.nan
    model = calibrate({"a": seen})
    assert model is not None
    assert (model.classes[0].cases, model.folds) == (40, 1)
    assert 0 < model.classes[0].error < 0.1
