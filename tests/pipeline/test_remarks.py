from dataclasses import replace

import numpy as np
import pytest

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.dataset.splits import Fold
from autoseg.inspection.statistics import CaseStats
from autoseg.pipeline.remarks import in_words, not_annotated, short_length, unseen_classes
from autoseg.planning.rules import load_rule_set
from autoseg.planning.run_plan import TrainingPlan
from autoseg.training.schedule import Budget
from tests.planning.specified import CPU, Scans, made_up_fingerprint, plan_of
from tests.training.blobs import make_case

TRAINING: TrainingPlan = load_rule_set("cpu").default("training")
EXPECTED = (
    plan_of(made_up_fingerprint(Scans((16, 18, 20), (1, 1, 1), count=5)), "cpu", CPU)
    .expected["3d_fullres"]
    .model_copy(update={"step_seconds": 1.0})
)
LABELS = LabelScheme(values=(0, 1, 2), names=("background", "liver", "tumour"))


@pytest.mark.parametrize("budget", [Budget(iterations=68), Budget(seconds=60)])
def test_less_than_an_epoch_is_called_too_short(budget: Budget) -> None:
    told = short_length(budget, TRAINING, EXPECTED)
    assert told is not None
    assert "less than one epoch of 250, where the plan has 40: too short" in told


@pytest.mark.parametrize("budget", [Budget(iterations=250), Budget(seconds=600)])
def test_what_may_do_is_not_remarked_on(budget: Budget) -> None:
    assert short_length(budget, TRAINING, EXPECTED) is None


def cases_with(*values: set[int]) -> list[CaseStats]:
    """Cases a, b, ... that hold voxels of these labels alone."""
    one = made_up_fingerprint(Scans((16, 18, 20), (1, 1, 1), count=1)).cases[0]
    held = [{value: int(value in present) for value in (0, 1, 2)} for present in values]
    return [
        one.model_copy(update={"case_id": "abcd"[i], "label_voxels": v}) for i, v in enumerate(held)
    ]


def test_a_class_that_only_held_out_cases_have_is_named_with_them() -> None:
    cases = cases_with({1}, {1, 2}, {1})
    held_out, seen = (Fold(train=t, validation=()) for t in (("a", "c"), ("a", "b")))
    (told,) = unseen_classes(0, held_out, cases, LABELS)
    assert told.startswith("Fold 0 never sees class tumour: its only case b is held out.")
    assert unseen_classes(0, seen, cases, LABELS) == []
    assert unseen_classes(0, held_out, cases_with({1}, {1}, {1}), LABELS) == []  # nobody has it


def test_regions_are_seen_with_any_of_their_classes() -> None:
    whole, inner = Region(name="whole", values=(1, 2)), Region(name="inner", values=(2,))
    labels = LABELS.model_copy(update={"regions": (whole, inner), "region_order": (1, 2)})
    fold = Fold(train=("a",), validation=("b", "c"))
    (told,) = unseen_classes(2, fold, cases_with({1}, {2}, {2}), labels)
    assert "class inner: its only cases b, c are held out" in told


def test_cases_that_are_ignored_throughout_are_found() -> None:
    case = make_case(0)
    voxels = {
        "all": None,
        "some": np.array([[1, 2, 3]], np.uint8),
        "none": np.empty((0, 3), np.uint8),
    }
    cases = {name: replace(case, annotated_locations=v) for name, v in voxels.items()}
    assert not_annotated(cases) == ["none"]


def test_many_cases_are_counted() -> None:
    assert in_words(list("abcdefg")) == "a, b, c, d, e and 2 more"
