"""Covers: semantic, task."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from autoseg.planning.model_plan import SemanticPlan, TaskPlan
from autoseg.tasks import TASKS, task_of
from autoseg.tasks.losses import Meaning, deep_supervision_loss
from autoseg.tasks.semantic import SemanticTask
from autoseg.tasks.task import alone
from tests.tasks.test_losses import loss_plan
from tests.tasks.test_voxel_answer import CLASSES, NESTED, REGIONS, SPACE, random_targets
from tests.training.blobs import changed_configuration, small_configuration


def task_with(regions: bool) -> SemanticTask:
    labels = NESTED if regions else CLASSES
    configuration = changed_configuration(
        small_configuration(), task={"classes": 4, "regions": labels.region_classes()}
    )
    task = task_of(configuration, labels)
    assert isinstance(task, SemanticTask)
    return task


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


@pytest.mark.parametrize("regions", [False, True])
def test_the_loss_is_the_plans_over_all_resolutions(regions: bool) -> None:
    task, targets = replace(task_with(regions), has_ignored=True), random_targets()
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, task.answer.outputs, *SPACE), (2, task.answer.outputs, 3, 2, 5)]
    outputs = [torch.randn(shape, generator=generator) for shape in shapes]
    given = Meaning(REGIONS if regions else ())
    expected = deep_supervision_loss(outputs, targets, task.loss_plan, given, alone)
    assert torch.equal(task.loss(outputs, targets), expected)
    doubled = task.loss(outputs, targets, lambda values: 2 * values)
    plainly = deep_supervision_loss(
        outputs, targets, task.loss_plan, given, lambda values: 2 * values
    )
    assert torch.equal(doubled, plainly)
