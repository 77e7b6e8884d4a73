"""Trainings that learn how deep voxels lie in their objects, or the ways to their middles, beside
all else that trainings do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.planning.model_plan import DistancePlan, FlowPlan, TaskPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.training.job import Training
from autoseg.training.trainer import train_model
from tests.training.blobs import Recorder, changed_training, training_in


def in_two(case: StoredCase) -> StoredCase:
    """The blob as two objects that touch."""
    label = np.asarray(case.label)
    right = np.arange(label.shape[2]) > 9
    return replace(case, objects=np.where(label == 1, 1 + right, 0).astype(np.uint16))


def learning_depth(folder: Path, plan: TaskPlan, dims: int, **options: Any) -> Training:
    training = training_in(folder, 20, dims=dims)
    changed = changed_training(training, model={"task": plan}, training=options)
    return replace(
        changed,
        train_cases={name: in_two(case) for name, case in training.train_cases.items()},
        validation_cases={name: in_two(case) for name, case in training.validation_cases.items()},
    )


def depth(dims: int) -> TaskPlan:
    return DistancePlan(classes=2, spacing_mm=(1.0,) * dims, reach_mm=3.0)


def ways(dims: int) -> TaskPlan:
    return FlowPlan(classes=2, spacing_mm=(1.0,) * dims, steps=12)


@pytest.mark.parametrize(
    ("plan_of", "dims", "options"),
    [
        (depth, 3, {"accumulated_batches": 2}),
        (depth, 2, {}),
        (ways, 2, {}),
        pytest.param(ways, 3, {}, marks=pytest.mark.slow),
        pytest.param(depth, 3, {"augment_on": "workers"}, marks=pytest.mark.slow),
    ],
    ids=["accumulated", "slices", "ways in slices", "ways", "workers"],
)
def test_depths_and_ways_are_learned_and_resumed_to_the_bit(
    tmp_path: Path, plan_of: Callable[[int], TaskPlan], dims: int, options: dict[str, Any]
) -> None:
    plan = plan_of(dims)
    whole, first = Recorder(), Recorder(stop_at=12)
    training = learning_depth(tmp_path / "whole", plan, dims, **options)
    network, _ = train_model(training, whole, Event(), resume=False)
    parts = learning_depth(tmp_path / "parts", plan, dims, **options)
    train_model(parts, first, first.stop, resume=False)
    resumed, _ = train_model(parts, Recorder(), Event(), resume=True)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert np.mean(whole.losses[-5:]) < whole.losses[0]
