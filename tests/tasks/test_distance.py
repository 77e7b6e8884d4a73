from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autoseg.augmentation.policy import no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import cut_patches, rotation_matrix
from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.planning.model_plan import DistancePlan
from autoseg.tasks.distance import DistanceTask, distance_task
from tests.tasks.test_losses import loss_plan

CELLS = LabelScheme(values=(0, 1), names=("background", "cell"), ignore=2, things=("cell",))


def task_with(reach_mm: float = 4.0) -> DistanceTask:
    plan = DistancePlan(classes=2, spacing_mm=(1.0, 1.0), reach_mm=reach_mm)
    return distance_task(plan, loss_plan("ce_dice"), CELLS)


def disks() -> torch.Tensor:
    """Two disks that overlap, cut half-way between them, numbered [1, y, x]."""
    y, x = np.mgrid[:40, :40]
    one, other = np.hypot(y - 20, x - 13), np.hypot(y - 20, x - 26)
    numbers = np.where(one < 9, 1, 0) + np.where((other < 9) & (one >= 9), 2, 0)
    return torch.from_numpy(np.where((other < one) & (other < 9), 2, numbers)).int()[None]


def test_the_loss_is_that_of_classes_and_the_mean_of_depths() -> None:
    numbers, task = disks(), task_with()
    labels = (numbers > 0).to(torch.uint8)
    outputs = [torch.randn((1, 3, 40, 40)), torch.randn((1, 3, 20, 20))]
    targets = task.targets(labels, numbers)
    off = F.smooth_l1_loss(outputs[0][:, 2], targets.depth, reduction="none", beta=0.1)
    expected = off[targets.known].mean()
    of_classes = task.semantic.loss([output[:, :2] for output in outputs], labels)
    torch.testing.assert_close(task.loss(outputs, targets), of_classes + expected)


def test_what_nobody_annotated_teaches_no_depth() -> None:
    numbers, task = disks(), task_with()
    labels = (numbers > 0).to(torch.uint8)
    labels[:, :, 20:] = IGNORED
    outputs = torch.zeros((1, 3, 40, 40), requires_grad=True)
    task.loss([outputs], task.targets(labels, numbers)).backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert not outputs.grad[:, 2, :, 20:].any() and outputs.grad[:, 2, :, :20].any()


def test_depth_between_touching_objects_is_a_valley() -> None:
    targets = task_with(9.0).targets((disks() > 0).to(torch.uint8), disks())
    line = targets.depth[0, 20]
    assert line[19] == pytest.approx(1 / 9) and min(line[13], line[26]) > 6 / 9


def test_depth_is_measured_after_augmentation_in_the_patchs_voxels() -> None:
    numbers = disks().numpy()
    matrix = rotation_matrix(np.deg2rad([30, 0, 0])) @ np.diag([1, 2.0, 2.0])
    changed = replace(no_augmentation(1), matrix=matrix)
    raw = RawSample(
        "a", numbers[None].astype(np.float32), (numbers > 0).astype(np.uint8), None, {},
        np.array([0, 19.5, 19.5]), changed, {}, numbers,
    )  # fmt: skip
    patches = cut_patches([raw], (1, 40, 40), torch.device("cpu"))
    assert patches.objects is not None
    halved = task_with(9.0).targets(patches.label[:, 0], patches.objects[:, 0]).depth.max()
    assert halved == pytest.approx(9 / 2 / 9, abs=0.06)  # disks are half as wide in the patch


def test_decisions_are_of_classes_alone() -> None:
    scores = torch.tensor([0.0, 1.0, 9.0]).view(3, 1, 1)
    task = task_with()
    assert task.scores([scores[None]]).flatten().tolist() == [0, 1]
    assert task.plan.outputs == 3 and task.answer.outputs == 2
    assert task.answer.names == ("cell",)
