"""Covers: inference.mirroring."""

import pytest
import torch

from autoseg.dataset.labels import IGNORED
from autoseg.inference.ensemble import Ensemble
from autoseg.inference.mirroring import Mirrored, mirrors
from autoseg.planning.model_plan import FlowPlan
from autoseg.tasks.directions import directions_in_objects
from autoseg.tasks.flow import FlowTask, flow_task
from tests.objects_made_up import balls
from tests.tasks.test_distance import CELLS, disks
from tests.tasks.test_losses import loss_plan


def task(dims: int = 2) -> FlowTask:
    plan = FlowPlan(classes=2, spacing_mm=(1.0,) * dims, steps=60)
    return flow_task(plan, loss_plan("ce_dice"), CELLS)


def test_the_loss_is_that_of_classes_and_the_mean_over_what_is_known() -> None:
    numbers = disks()
    labels = (numbers > 0).to(torch.uint8)
    outputs = [torch.randn((1, 5, 40, 40)), torch.randn((1, 5, 20, 20))]
    ways, known = directions_in_objects(numbers, (1.0, 1.0), 60)
    z, (y, x) = outputs[0][0, 2], outputs[0][0, 3:] - ways[0]
    off = (z**2 + y**2 + x**2)[None]
    expected = off[known | (numbers == 0)].mean()
    of_classes = task().semantic.loss([output[:, :2] for output in outputs], labels)
    found = task().loss(outputs, task().targets(labels, numbers))
    torch.testing.assert_close(found, of_classes + expected)


def test_what_nobody_annotated_teaches_no_way() -> None:
    labels = (disks() > 0).to(torch.uint8)
    labels[:, :, 20:] = IGNORED
    outputs = torch.ones((1, 5, 40, 40), requires_grad=True)
    task().loss([outputs], task().targets(labels, disks())).backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert not outputs.grad[:, 2:, :, 20:].any() and outputs.grad[:, 2:, :, :20].any()


def as_told(patches: torch.Tensor, spacing_mm: tuple[float, ...]) -> torch.Tensor:
    """What a network would say that knows the truth: of numbers [n, 1, *space]."""
    numbers = patches[:, 0].round().int()
    ways, _ = directions_in_objects(numbers, spacing_mm, 60)
    flat = ways.new_zeros((len(ways), 3 - ways.shape[1], *ways.shape[2:]))
    inside = (numbers > 0).float()
    return torch.cat((torch.stack((1 - inside, inside), 1), flat, ways), dim=1)


@pytest.mark.parametrize("shape", [(40, 36), (16, 24, 20)])
def test_looks_at_mirror_images_agree_once_their_ways_are_turned_back(
    shape: tuple[int, ...],
) -> None:
    numbers = torch.from_numpy(balls(shape, (1.0,) * len(shape)))[None, None].float()
    spacing_mm, axes = (1.0,) * len(shape), tuple(range(2, 2 + len(shape)))
    told, own = as_told(numbers, spacing_mm), task(len(shape))
    for flipped in mirrors(axes):
        image = numbers.flip(flipped) if flipped else numbers
        back = own.seen_back(as_told(image, spacing_mm), flipped)
        # Of two voxels as near to the centroid the first is the middle, in a mirror the other one.
        assert (back * told)[:, 2:].sum(1)[numbers[:, 0] > 0].median() > 0.99
        torch.testing.assert_close(back[:, :2], told[:, :2])
    mean = Mirrored(lambda image: as_told(image, spacing_mm), axes, own.seen_back)(numbers)  # type: ignore[arg-type]
    assert mean[:, 2:].norm(dim=1)[numbers[:, 0] > 0].median() > 0.95


def test_ensembles_turn_ways_back_in_slices_too() -> None:
    numbers = torch.from_numpy(balls((40, 36), (1.0, 1.0)))[None, None, None].float()
    ensemble = Ensemble((lambda image: as_told(image, (1.0, 1.0)),), 2, (1, 2), task())
    mean = ensemble(numbers)  # [n, output, z, y, x]
    told = as_told(numbers[:, :, 0], (1.0, 1.0))[:, :, None]
    inside = numbers[:, 0] > 0
    assert (mean * told)[:, 2:].sum(1)[inside].median() > 0.95


def test_decisions_are_of_classes_alone() -> None:
    scores = torch.tensor([0.0, 1.0, 9.0, 9.0, 9.0]).view(5, 1, 1)
    assert task().scores([scores[None]]).flatten().tolist() == [0, 1]
    assert task().plan.outputs == 5 and task().answer.outputs == 2
    assert task().answer.names == ("cell",)


def test_a_border_is_a_part_of_its_object() -> None:
    bordered = FlowTask(task().plan.model_copy(update={"border": 2}), task().semantic)
    labels = (disks() > 0).to(torch.uint8)
    labels[0, 20, 19:21] = 2
    assert int(bordered.targets(labels, disks()).classes.max()) == 1
