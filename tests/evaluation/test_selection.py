"""Choices between candidates and between steps, on scores that are made up.

Covers: step_choice, patients.
"""

import numpy as np
import pytest

from autoseg.evaluation.patients import Patients, class_means, overall
from autoseg.evaluation.selection import (
    choose_as_nnunet,
    choose_candidate,
    score_candidates,
    subsets_to_try,
)
from autoseg.evaluation.step_choice import (
    Choices,
    Measured,
    choose_steps,
    held_out_scores,
    nnunet_steps,
)
from autoseg.postprocessing.steps import FOREGROUND, LargestComponent, Step

NAN = np.nan
A, B, ALL = (LargestComponent(of=name, values=(1,)) for name in ("a", "b", FOREGROUND))
SECONDS = {"x": 1.0, "y": 2.0, "z": 4.0}


def scored(**scores: list[float]):  # type: ignore[no-untyped-def]
    """Candidates by their members' letters, with a score for each patient."""
    by_members = {tuple(name): np.array(own)[:, None] for name, own in scores.items()}
    patients = Patients.of([str(i) for i in range(len(next(iter(scores.values()))))])
    return score_candidates(by_members, ["a"], SECONDS, patients)


def test_means_are_of_classes_over_the_cases_that_have_them() -> None:
    scores = np.array([[1.0, NAN, NAN], [0.0, 0.25, NAN]])
    np.testing.assert_array_equal(class_means(scores), [0.5, 0.25, NAN])
    assert overall(scores) == 0.375


def test_the_standard_error_is_that_of_a_mean_over_patients() -> None:
    scores = np.random.default_rng(0).normal(0.8, 0.1, (60, 1))
    patients = Patients.of([str(index) for index in range(60)])
    expected = scores.std(ddof=1) / np.sqrt(60)
    assert patients.standard_error(scores) == pytest.approx(expected, rel=0.06)
    interval = patients.interval(scores)
    assert interval.low == pytest.approx(scores.mean() - 1.96 * expected, abs=expected / 4)


def test_scans_of_one_patient_count_as_one() -> None:
    scores = np.repeat(np.random.default_rng(0).normal(0.8, 0.1, (20, 1)), 5, axis=0)
    together = Patients.of([str(index // 5) for index in range(100)])
    apart = Patients.of([str(index) for index in range(100)])
    ratio = together.standard_error(scores) / apart.standard_error(scores)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.1)


def test_a_gain_of_all_patients_is_certain_however_much_they_differ() -> None:
    before = np.random.default_rng(0).normal(0.5, 0.2, (30, 2))
    gain = Patients.of([str(i) for i in range(30)]).gain(before, before + 0.01)
    assert (gain.low, gain.high) == pytest.approx((0.01, 0.01))
    assert gain.excludes_zero


def test_all_ensembles_of_few_members_are_tried_and_growing_ones_of_many() -> None:
    assert subsets_to_try([1, 0, 2]) == ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert len(subsets_to_try(range(5))) == 31
    many = subsets_to_try([6, 0, 5, 1, 4, 2, 3])
    assert many[-5:] == (
        (0, 5, 6), (0, 1, 5, 6), (0, 1, 4, 5, 6), (0, 1, 2, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6),
    )  # fmt: skip
    assert len(many) == 7 + 21 + 5


def test_a_single_model_is_taken_within_one_standard_error_of_the_best() -> None:
    x, y = [0.7, 0.8, 0.9, 0.8], [0.6, 0.6, 0.6, 0.6]
    near = scored(x=x, y=y, xy=[s + 0.01 for s in x])
    choice = choose_candidate(near)
    assert near[choice.index].members == ("x",)
    assert "takes 3.0 times as long" in choice.because
    far = scored(x=x, y=y, xy=[s + 0.1 for s in x])
    assert far[choose_candidate(far).index].members == ("x", "y")
    assert far[0].gap == pytest.approx(0.1)
    assert far[0].gap_interval.excludes_zero


def test_of_equal_ensembles_the_smaller_is_taken() -> None:
    low, high = [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]
    found = scored(x=low, y=low, z=low, xyz=high, xy=high)
    assert found[choose_candidate(found).index].members == ("x", "y")


def test_nnunet_takes_the_first_of_the_highest() -> None:
    found = scored(x=[0.5, 0.6], y=[0.6, 0.5], xy=[0.6, 0.5])
    assert choose_as_nnunet(found).index == 0
    assert choose_as_nnunet(scored(x=[0.5, 0.6], y=[0.6, 0.6])).index == 1


class Table:
    """Scores that a step adds to, whatever came before."""

    def __init__(self, before: np.ndarray, **adds: np.ndarray) -> None:
        self.before = before
        self.adds: dict[Step, np.ndarray] = {
            {"a": A, "b": B, "all": ALL}[name]: added for name, added in adds.items()
        }

    def __call__(self, steps: tuple[Step, ...]) -> Measured:
        before = self.before + sum(self.adds[step] for step in steps)
        return Measured(before, {step: before + added for step, added in self.adds.items()})


def choices(cases: int) -> Choices:
    return Choices([(ALL,), (A,), (B,)], ["a", "b"], np.ones((cases, 2), bool))


BEFORE = np.full((4, 2), 0.5)
EVERY = np.ones(4, bool)


def test_steps_are_kept_that_help_and_harm_no_class() -> None:
    table = Table(
        BEFORE, all=BEFORE * [0.2, -0.1], a=BEFORE * [0.1, 0], b=BEFORE * [0, -0.1]
    )  # the first helps on the whole, but harms b
    kept = choose_steps(table, choices(4), EVERY)
    assert [k.step for k in kept] == [A]
    assert kept[0].gain == pytest.approx(0.025)


def test_a_step_that_changes_nothing_is_not_kept() -> None:
    assert (
        choose_steps(Table(BEFORE, all=0 * BEFORE, a=0 * BEFORE, b=0 * BEFORE), choices(4), EVERY)
        == ()
    )


def test_nothing_is_tried_of_a_class_that_no_reference_has() -> None:
    table = Table(BEFORE, all=0.1 * BEFORE, a=0.1 * BEFORE, b=0.1 * BEFORE)
    seen = np.array([[True, False]] * 4)
    open_to = Choices([(ALL,), (A,), (B,)], ["a", "b"], seen)
    assert [k.step for k in choose_steps(table, open_to, EVERY)] == [A]
    assert open_to.unseen(EVERY) == ["b"]


def test_the_held_out_gain_is_of_steps_that_were_chosen_on_other_folds() -> None:
    """A step that helps in one fold of two is kept on the other alone, where it harms."""
    adds = np.array([[0.2, 0], [0.2, 0], [-0.1, 0], [-0.1, 0]])
    table = Table(BEFORE, all=0 * adds, a=adds, b=0 * adds)
    scores = held_out_scores(table, choices(4), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(scores[:, 0], [0.5, 0.5, 0.4, 0.4])
    assert [k.step for k in choose_steps(table, choices(4), EVERY)] == [A]


def test_nnunet_looks_at_all_classes_first_and_then_at_each_alone() -> None:
    harms_b = Table(BEFORE, all=BEFORE * [0.2, -0.1], a=BEFORE * [0.1, -0.2], b=0 * BEFORE)
    kept = nnunet_steps(harms_b, ALL, [A, B])
    assert [k.step for k in kept] == [A]  # although the mean falls
    helps = Table(BEFORE, all=BEFORE * [0.2, 0], a=0 * BEFORE, b=BEFORE * [0, 0.1])
    assert [k.step for k in nnunet_steps(helps, ALL, [A, B])] == [ALL, B]
    one = Table(BEFORE[:, :1], all=0 * BEFORE[:, :1], a=0.1 * BEFORE[:, :1])
    assert nnunet_steps(one, ALL, [A]) == ()
