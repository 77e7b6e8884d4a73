"""The task of boxes, and what they lose.

Covers: box_losses.
"""

from math import log

import pytest
import torch

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks.detections import OUTSIDE, SURE, Detected, as_queries
from autoseg.networks.mask_rcnn import BoxOutputs
from autoseg.networks.point_rend import Points
from autoseg.networks.region_heads import Regions
from autoseg.networks.region_proposals import Proposals
from autoseg.planning.model_plan import BoxesPlan
from autoseg.planning.run_plan import BoxLossPlan, LossPlan
from autoseg.tasks.box_losses import BoxLosses, box_losses, mask_loss
from autoseg.tasks.boxes import BoxesTask, boxes_task
from autoseg.tasks.task import alone
from tests.networks.test_mask_rcnn import plan_of

LABELS = LabelScheme(values=(0, 1, 2), names=("background", "cell", "tissue"), things=("cell",))
PLAN = BoxesPlan(classes=3, things=(1,), objects=4, mask_stride=(1, 1))
LOSS = LossPlan(kind="found_boxes", batch_dice=False, dice_smooth=1, boxes=BoxLossPlan())
BOXES = torch.tensor([[2.0, 2, 8, 10], [10, 4, 16, 14]])  # of the two objects there are
ELSEWHERE = torch.tensor([[12.0, 16, 18, 22], [0, 14, 5, 20]])


def task() -> BoxesTask:
    return boxes_task(PLAN, LOSS, LABELS)


def two_cells() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(1, 20, 24, dtype=torch.uint8)
    for y0, x0, y1, x1 in BOXES.int().tolist():
        labels[0, y0:y1, x0:x1] = 1
    numbers = labels.int()
    numbers[0, 10:] *= 5
    return labels, numbers


def perfect(dense: bool = False) -> BoxOutputs:
    """What a network says that knows both cells, and that there is nothing elsewhere."""
    boxes = torch.cat((BOXES, ELSEWHERE))[None]
    is_cell = torch.tensor([True, True, False, False])
    signs = torch.where(is_cell, 1.0, -1.0) * SURE
    classes = torch.stack((-SURE + 0 * signs, signs, -SURE + 0 * signs, -signs), dim=1)[None]
    masks = torch.full((1, 4, 6, 6), SURE)
    told = as_queries(Detected(boxes, classes), masks, None, plan_of(2), (20, 24))
    logits = torch.full((1, 3, 10, 12), -SURE)
    labels = two_cells()[0][:, ::2, ::2]
    logits.scatter_(1, labels[:, None].long(), SURE)
    return BoxOutputs(
        proposals=Proposals([boxes[0][:, None]], signs[None], boxes),
        steps=[Regions(boxes, classes, boxes)],
        boxes=boxes,
        masks=masks,
        points=[Points(torch.full((1, 4, 3, 2), 0.3), torch.full((1, 4, 3), -SURE))],
        dense=[logits] if dense else [],
        found=[told],
    )


def lost(outputs: BoxOutputs) -> BoxLosses:
    return box_losses(outputs, task().targets(*two_cells()), BoxLossPlan(), alone)


def test_nothing_is_lost_where_all_is_known() -> None:
    outputs = perfect()._replace(points=[])
    found = lost(outputs)
    for value in (found.objectness, found.proposals, found.classes, found.boxes):
        assert float(value) == pytest.approx(0, abs=1e-5)
    assert float(found.masks) == pytest.approx(0, abs=1e-4)
    total = task().loss([outputs], task().targets(*two_cells()))
    assert float(total) == pytest.approx(0, abs=1e-3)


def test_what_is_lost_is_the_mean_over_boxes() -> None:
    outputs = perfect()
    step = outputs.steps[0]
    unsure = torch.zeros_like(step.classes)  # four classes alike
    moved = step.better.clone()
    moved[0, 0, 1::2] += 4  # half of the first box lies beside it: an IoU of a third
    found = lost(outputs._replace(steps=[Regions(step.boxes, unsure, moved)]))
    assert float(found.classes) == pytest.approx(log(4))
    assert float(found.boxes) == pytest.approx((1 - 1 / 3) / 2)
    proposals = outputs.proposals._replace(objectness=torch.zeros(1, 4))
    assert float(lost(outputs._replace(proposals=proposals)).objectness) == pytest.approx(log(2))


def test_smooth_l1_is_of_sides() -> None:
    outputs = perfect()
    moved = outputs.steps[0].better.clone()
    moved[0, 0, 1::2] += 4  # half of its side, of 8
    step = outputs.steps[0]._replace(better=moved)
    targets = task().targets(*two_cells())
    plan = BoxLossPlan(box_loss="smooth_l1")
    found = box_losses(outputs._replace(steps=[step]), targets, plan, alone)
    assert float(found.boxes) == pytest.approx((0.5 - 0.05) / 2)


def test_masks_lose_where_they_are_wrong_and_nowhere_else() -> None:
    labels, numbers = two_cells()
    labels[0, 2:8, 2:6] = IGNORED
    targets = task().targets(labels, numbers)
    number = targets.masks.masks[0, 4, 8]
    match = torch.stack((number, number * 0 - 1))[None]
    # In the cell, in what nobody knows, and in the background, of two boxes of which one counts.
    x, y = torch.tensor([8.5, 4.5, 20.5]) / 24, torch.tensor([4.5, 4.5, 4.5]) / 20
    places = torch.stack((x, y), dim=-1).expand(1, 2, -1, -1)
    found = mask_loss(Points(places, torch.zeros(1, 2, 3)), targets, match, alone)
    dice = 1 - (2 * 0.5 + 1) / (0.5 + 0.5 + 1 + 1)
    assert float(found) == pytest.approx(log(2) + dice)


def test_no_object_is_no_loss_but_of_what_is_taken_for_one() -> None:
    labels = torch.zeros(1, 20, 24, dtype=torch.uint8)
    found = box_losses(perfect(), task().targets(labels, labels.int()), BoxLossPlan(), alone)
    assert float(found.objectness) > 1 and float(found.classes) > 1
    assert float(found.boxes) == float(found.proposals) == float(found.masks) == 0


def test_voxels_are_decided_by_the_masks_of_detections() -> None:
    labels, _ = two_cells()
    (told,) = perfect().found
    maps = torch.full((1, 3, 20, 24), OUTSIDE)
    for index, (y0, x0, y1, x1) in enumerate(BOXES.int().tolist()):
        maps[0, index, y0:y1, x0:x1] = SURE
    maps[0, 2] = -maps[0, :2].amax(0)
    classes = told.classes[:, [0, 1, 4]]
    outputs = perfect()._replace(found=[told._replace(classes=classes, masks=maps)])
    decided = task().answer.decision(task().scores([outputs]))  # [batch, name, y, x]
    assert torch.equal(decided[0, 0], labels[0] == 1) and not decided[0, 1].any()
    assert torch.equal(task().labels(task().targets(labels)), labels)
    assert task().merging == "queries" and task().answer.names == ("cell", "tissue")


def test_the_panoptic_branch_learns_every_class() -> None:
    targets = task().targets(*two_cells())
    right = perfect(dense=True)
    wrong = right._replace(dense=[-right.dense[0]])
    losses = [float(task().loss([outputs], targets)) for outputs in (right, wrong)]
    assert losses[1] > losses[0] + 10


def test_a_loss_of_voxels_is_refused() -> None:
    with pytest.raises(AutosegError, match="found_boxes with its `boxes`"):
        boxes_task(PLAN, LOSS.model_copy(update={"kind": "ce_dice"}), LABELS)
