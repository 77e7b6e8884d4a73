"""Covers: task."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import special, stats

from autoseg.dataset.labels import IGNORED, LabelScheme, Region
from autoseg.planning.model_plan import SemanticPlan, TaskPlan
from autoseg.tasks import TASKS, task_of
from autoseg.tasks.losses import Meaning, deep_supervision_loss
from autoseg.tasks.semantic import SemanticTask
from autoseg.tasks.task import alone
from tests.tasks.test_losses import loss_plan
from tests.training.blobs import changed_configuration, small_configuration

REGIONS = ((1, 2, 3), (2, 3), (3,))
CLASSES = LabelScheme(values=(0, 1, 2, 5), names=("background", "shell", "middle", "core"))
NESTED = CLASSES.model_copy(
    update={
        "regions": (
            Region(name="whole", values=(1, 2, 5)),
            Region(name="inner", values=(2, 5)),
            Region(name="core", values=(5,)),
        ),
        "region_order": (1, 2, 5),
    }
)
SPACE = (3, 4, 5)


def task_with(regions: bool) -> SemanticTask:
    labels = NESTED if regions else CLASSES
    configuration = changed_configuration(
        small_configuration(), task={"classes": 4, "regions": labels.region_classes()}
    )
    task = task_of(configuration, labels)
    assert isinstance(task, SemanticTask)
    return task


def scores_of_scan(outputs: int) -> torch.Tensor:
    return torch.randn(outputs, *SPACE, generator=torch.Generator().manual_seed(0)).double() * 3


def random_targets() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 4, (2, *SPACE), generator=generator, dtype=torch.uint8)
    targets[:, 0] = IGNORED
    return targets


def test_every_kind_of_a_plan_is_in_the_table_and_makes_its_task() -> None:
    plans = get_args(get_args(TaskPlan)[0])
    kinds = [kind for plan in plans for kind in get_args(plan.model_fields["kind"].annotation)]
    assert set(TASKS) == set(kinds)
    assert {get_args(plan.model_fields["kind"].annotation) for plan in plans} == {
        ("semantic",),
        ("distance",),
        ("flow",),
        ("mask_queries",),
        ("boxes",),
        ("solov2", "yolact"),
    }
    task = TASKS["semantic"](SemanticPlan(classes=4), loss_plan("ce_dice"), CLASSES)
    assert task.merging == "dense"


@pytest.mark.parametrize(("regions", "outputs"), [(False, 4), (True, 3)])
def test_a_plan_has_an_output_for_each_class_or_region(regions: bool, outputs: int) -> None:
    task = task_with(regions)
    assert task.plan.outputs == outputs
    assert task.names == (("whole", "inner", "core") if regions else ("shell", "middle", "core"))


def test_classes_are_decoded_to_the_highest_score() -> None:
    scores = scores_of_scan(4)
    found = task_with(regions=False).decode(scores)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, scores.numpy().argmax(0))


def test_regions_are_painted_one_over_the_other() -> None:
    scores = scores_of_scan(3)
    found = task_with(regions=True).decode(scores)
    expected = np.zeros(SPACE, np.uint8)
    for voxel in np.ndindex(SPACE):
        above = [i + 1 for i in range(3) if scores[(i, *voxel)] > 0]
        expected[voxel] = above[-1] if above else 0
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(expected)) == {0, 1, 2, 3}


def test_probabilities_and_entropy_of_classes() -> None:
    task, scores = task_with(regions=False), scores_of_scan(4)
    probabilities = task.probabilities(scores)
    np.testing.assert_allclose(probabilities, special.softmax(scores.numpy(), axis=0), atol=1e-12)
    expected = stats.entropy(probabilities.numpy(), axis=0)
    np.testing.assert_allclose(task.entropy(probabilities), expected, atol=1e-12)
    certain = torch.zeros(4, 1).double()
    certain[2] = 1
    assert task.entropy(certain).tolist() == [0]


def test_probabilities_and_entropy_of_regions() -> None:
    task, scores = task_with(regions=True), scores_of_scan(3)
    probabilities = task.probabilities(scores)
    p = 1 / (1 + np.exp(-scores.numpy()))
    np.testing.assert_allclose(probabilities, p, atol=1e-12)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(0)
    np.testing.assert_allclose(task.entropy(probabilities), expected, atol=1e-12)
    assert task.entropy(torch.tensor([[1.0], [0.0], [1.0]])).tolist() == [0]


@pytest.mark.parametrize("regions", [False, True])
def test_scores_of_probabilities_decode_and_count_alike(regions: bool) -> None:
    task = task_with(regions)
    scores = scores_of_scan(task.plan.outputs)
    back = task.scores_of(task.probabilities(scores))
    torch.testing.assert_close(task.probabilities(back), task.probabilities(scores))
    assert torch.equal(task.decode(back), task.decode(scores))


@pytest.mark.parametrize("regions", [False, True])
def test_truth_and_decision_are_maps_of_the_names(regions: bool) -> None:
    task, targets = task_with(regions), random_targets()
    groups = REGIONS if regions else ((1,), (2,), (3,))
    truth = np.stack([np.isin(targets.numpy(), group) for group in groups], axis=1)
    np.testing.assert_array_equal(task.truth(task.targets(targets)), truth)
    np.testing.assert_array_equal(task.annotated(targets), targets.numpy() != IGNORED)
    outputs = scores_of_scan(task.plan.outputs)[None]
    decided = task.decision([outputs, outputs[..., :1] * 0])  # of the highest resolution
    expected = outputs.numpy() > 0
    if not regions:
        expected = outputs.numpy().argmax(1)[:, None] == np.arange(1, 4).reshape(1, 3, 1, 1, 1)
    np.testing.assert_array_equal(decided, expected)


@pytest.mark.parametrize("regions", [False, True])
def test_models_disagree_where_their_votes_differ(regions: bool) -> None:
    task = task_with(regions)
    scores = scores_of_scan(task.plan.outputs)[None]
    votes = task.votes(scores)
    expected = scores.numpy() > 0 if regions else scores.numpy().argmax(1)[:, None]
    np.testing.assert_array_equal(votes, expected)


@pytest.mark.parametrize("regions", [False, True])
def test_the_loss_is_the_plans_over_all_resolutions(regions: bool) -> None:
    task, targets = replace(task_with(regions), has_ignored=True), random_targets()
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, task.plan.outputs, *SPACE), (2, task.plan.outputs, 3, 2, 5)]
    outputs = [torch.randn(shape, generator=generator) for shape in shapes]
    given = Meaning(REGIONS if regions else ())
    expected = deep_supervision_loss(outputs, targets, task.loss_plan, given, alone)
    assert torch.equal(task.loss(outputs, targets), expected)
    doubled = task.loss(outputs, targets, lambda values: 2 * values)
    plainly = deep_supervision_loss(
        outputs, targets, task.loss_plan, given, lambda values: 2 * values
    )
    assert torch.equal(doubled, plainly)
