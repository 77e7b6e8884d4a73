"""Covers: chosen, solo_loss, yolact_loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.networks.box_geometry import pairwise_iou
from autoseg.networks.chosen_rows import taken
from autoseg.networks.region_proposals import anchors_at
from autoseg.networks.solov2 import SoloOutputs
from autoseg.networks.yolact import YolactOutputs, changes_to
from autoseg.planning.model_plan import CandidatesPlan
from autoseg.tasks.candidates import CandidatesTask, candidates_task
from autoseg.tasks.chosen import MASKS_AT_ONCE, at_random, focal_losses
from autoseg.tasks.solo_loss import cells_of_objects, dice_losses, middles_of_cells
from autoseg.tasks.task import alone
from autoseg.tasks.yolact_loss import class_losses, match_boxes
from tests.objects_made_up import balls
from tests.tasks.test_losses import loss_plan
from tests.tasks.test_placed_objects import placed, plan

CELLS = LabelScheme(values=(0, 1, 2), names=("background", "cell", "border"), things=("cell",))
NUMBERS = balls((40, 36), (1.0, 1.0))


def task(kind: str) -> CandidatesTask:
    changes = {"kind": kind, "sizes_mm": ((0.0, 1e6),) if kind == "solov2" else ()}
    return candidates_task(plan(2).model_copy(update=changes), loss_plan("ce_dice"), CELLS)


def semantic() -> torch.Tensor:
    inside = torch.from_numpy(NUMBERS > 0)[None, None].float()
    score = 20 * functional.avg_pool2d(inside, 2) - 10
    return torch.cat((-score, score, torch.full_like(score, -30)), dim=1)


def kernels_of_the_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Features that are one object each [1, object, y, x], as logits."""
    found = placed(NUMBERS)
    shares = found.shares(torch.arange(30)[None], (2, 2)).view(1, 30, 20, 18)
    return 30 * shares - 15, found.classes


def boxes_about(shape: tuple[int, int], stride: int) -> torch.Tensor:
    """Boxes [box, 2 x axis], one about each place of a map."""
    return anchors_at([(11.0, 11.0)], (stride, stride), shape, torch.device("cpu"))[:, 0]


def true_solo() -> SoloOutputs:
    features, _ = kernels_of_the_truth()
    own = cells_of_objects(placed(NUMBERS), (0.0, 1e6), (20, 18), (40, 36), (1.0, 1.0))
    cells = torch.full((1, 3, 20, 18), -12.0)
    cells[:, 1] = torch.where(own >= 0, 12.0, -12.0)
    kernels = functional.one_hot(own.clamp_min(0), 30).movedim(-1, 1).float()
    return SoloOutputs((cells,), (kernels,), features, semantic())


def true_yolact() -> YolactOutputs:
    features, _ = kernels_of_the_truth()
    anchors = boxes_about((20, 18), 2)
    objects = placed(NUMBERS)
    matched = match_boxes(anchors, objects)
    classes = torch.where(matched.finds[..., None], torch.tensor([-9.0, 9, -9]), -9.0)
    classes[..., 0] = torch.where(matched.finds, -9.0, 9.0)
    boxes = taken(objects.boxes, matched.own)
    coefficients = functional.one_hot(matched.own, 30).float()
    changes = changes_to(anchors[None], boxes)
    return YolactOutputs(classes, changes, coefficients, anchors, features, semantic())


def with_wrong(found: SoloOutputs | YolactOutputs) -> list[SoloOutputs | YolactOutputs]:
    """The same, wrong in one respect each."""
    if isinstance(found, SoloOutputs):
        return [
            found._replace(cells=(-found.cells[0],)),
            found._replace(kernels=(-found.kernels[0],)),
            found._replace(semantic=-found.semantic),
        ]
    return [
        found._replace(classes=-found.classes),
        found._replace(changes=found.changes + 3),
        found._replace(coefficients=-found.coefficients),
        found._replace(semantic=-found.semantic),
    ]


@pytest.mark.parametrize("found", [true_solo(), true_yolact()], ids=["solov2", "yolact"])
def test_the_truth_loses_little_and_each_mistake_much(found: SoloOutputs | YolactOutputs) -> None:
    own = task("solov2" if isinstance(found, SoloOutputs) else "yolact")
    labels = torch.from_numpy((NUMBERS > 0).astype(np.uint8))[None]
    targets = own.targets(labels, torch.from_numpy(NUMBERS)[None])
    torch.manual_seed(0)
    least = float(own.loss([found], targets))
    assert all(float(own.loss([other], targets)) > least + 0.5 for other in with_wrong(found))
    decided = own.answer.decision(own.scores([found]))
    assert bool((decided == own.answer.truth(own.labels(targets))).float().mean() > 0.95)


@pytest.mark.parametrize("found", [true_solo(), true_yolact()], ids=["solov2", "yolact"])
def test_patches_without_objects_have_a_finite_loss(found: SoloOutputs | YolactOutputs) -> None:
    own = task("solov2" if isinstance(found, SoloOutputs) else "yolact")
    nothing = torch.zeros((1, 40, 36), dtype=torch.uint8)
    assert torch.isfinite(own.loss([found], own.targets(nothing, nothing.int())))


@pytest.mark.parametrize("found", [true_solo(), true_yolact()], ids=["solov2", "yolact"])
def test_where_nobody_annotated_finding_objects_costs_nothing(
    found: SoloOutputs | YolactOutputs,
) -> None:
    own = task("solov2" if isinstance(found, SoloOutputs) else "yolact")
    labels = torch.full((1, 40, 36), IGNORED, dtype=torch.uint8)
    said = found.cells[0] if isinstance(found, SoloOutputs) else found.classes.transpose(1, 2)
    logits = said.clone().requires_grad_()

    def with_logits() -> SoloOutputs | YolactOutputs:
        if isinstance(found, SoloOutputs):
            return found._replace(cells=(logits,))
        return found._replace(classes=logits.transpose(1, 2))

    def slopes() -> torch.Tensor:
        """By how much the loss changes with what is said of each place of the map [y, x]."""
        targets = own.targets(labels, torch.zeros_like(labels).int())
        loss = own.object_loss(with_logits(), targets, own.plan, alone)
        return torch.autograd.grad(loss, logits)[0].abs().sum(1).view(20, 18)

    assert not slopes().any()
    labels[:, 20:] = 0  # the other half is known to be empty
    assert not slopes()[:10].any() and slopes()[10:].any()


def test_middles_of_cells_are_in_voxels() -> None:
    middles = middles_of_cells((2, 3), (8, 6), torch.device("cpu"))
    assert middles.tolist() == [[2, 1], [2, 3], [2, 5], [6, 1], [6, 3], [6, 5]]


def test_a_grid_looks_for_objects_by_the_size_of_their_boxes() -> None:
    rod = np.zeros((40, 36), np.int32)
    for step in range(30):
        rod[step + 2 : step + 5, step + 2] = 1
    box = placed(rod).boxes[0][placed(rod).classes[0] > 0][0]
    side = float(((box[2] - box[0]) * (box[3] - box[1])).sqrt())  # far more than of its voxels
    cells = ((20, 18), (40, 36), (1.0, 1.0))
    assert int(cells_of_objects(placed(rod), (side - 1, side + 1), *cells).max()) >= 0
    assert int(cells_of_objects(placed(rod), (0.0, side - 1), *cells).max()) < 0


def test_the_cell_of_each_centre_is_its_objects_and_others_only_near_it() -> None:
    objects = placed(NUMBERS)
    found = cells_of_objects(objects, (0.0, 1e6), (20, 18), (40, 36), (1.0, 1.0))[0]
    for number in torch.nonzero(objects.classes[0])[:, 0].tolist():
        y, x = (objects.centres[0, number] / 2).floor().int().tolist()
        assert int(found[y, x]) == number
        rows, columns = torch.nonzero(found == number, as_tuple=True)
        assert max((rows - y).abs().max(), (columns - x).abs().max()) <= 1
    none = cells_of_objects(objects, (30.0, 1e6), (20, 18), (40, 36), (1.0, 1.0))
    assert int(none.max()) == -1  # all are smaller


def test_boxes_find_what_they_overlap_most_and_every_object_is_found() -> None:
    objects = placed(NUMBERS)
    anchors = boxes_about((10, 9), 4)
    found = match_boxes(anchors, objects)
    there = objects.classes[0] > 0
    overlaps = pairwise_iou(objects.boxes, anchors)[0].numpy() * there[:, None].numpy()
    best = overlaps.max(0)
    assert set(found.own[0][found.finds[0]].tolist()) == set(torch.nonzero(there)[:, 0].tolist())
    np.testing.assert_array_equal(found.finds[0].numpy()[best >= 0.5], True)
    np.testing.assert_array_equal(found.empty[0] & found.finds[0], False)
    assert (best[found.empty[0]] < 0.4).all()


def test_three_times_as_many_boxes_without_an_object_count_and_the_worst_of_them() -> None:
    objects = placed(NUMBERS)
    anchors = boxes_about((20, 18), 2)
    matched = match_boxes(anchors, objects)
    logits = torch.randn(1, 360, 3, generator=torch.Generator().manual_seed(0))
    each = class_losses(logits, objects, matched)[0]
    empty, finds = matched.empty[0], matched.finds[0]
    wanted = min(3 * int(finds.sum()), int(empty.sum()))
    assert int(((each > 0) & empty).sum()) == wanted
    background = functional.cross_entropy(logits[0], torch.zeros(360).long(), reduction="none")
    worst = background[empty].sort(descending=True).values[:wanted]
    torch.testing.assert_close(each[empty].sort(descending=True).values[:wanted], worst)
    assert bool((each[~empty & ~finds] == 0).all()) and bool((each[finds] > 0).all())


def test_of_what_is_wanted_some_are_drawn_and_nothing_else() -> None:
    wanted = torch.zeros((2, 400), dtype=torch.bool)
    wanted[0, 5:200], wanted[1, 7] = True, True
    index, counts = at_random(wanted)
    assert index.shape == (2, MASKS_AT_ONCE) and counts.sum(1).tolist() == [MASKS_AT_ONCE, 1]
    assert bool(wanted.gather(1, index)[counts > 0].all()) and len(set(index[0].tolist())) == 48


def test_focal_losses_and_dice_are_the_papers() -> None:
    found = focal_losses(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    p = 1 / (1 + np.exp(-2))
    expected = [0.25 * 0.25 * np.log(2), 0.75 * p**2 * -np.log(1 - p)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    dice = dice_losses(torch.tensor([[[0.5, 1.0, 0]]]), torch.tensor([[[1.0, 1, 0]]]))
    assert float(dice) == pytest.approx(1 - 2 * 1.5 / (1.25 + 2), abs=1e-3)


def test_the_plan_says_which_loss_there_is() -> None:
    assert task("solov2").object_loss is not task("yolact").object_loss
    assert task("yolact").merging == "queries" and task("yolact").answer.outputs == 3
    no_things = plan(2).model_copy(update={"things": ()})
    assert candidates_task(no_things, loss_plan("ce_dice"), CELLS).merging == "dense"
    assert isinstance(no_things, CandidatesPlan)
