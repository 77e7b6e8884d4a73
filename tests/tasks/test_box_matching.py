"""Matches beside slow ones written from the papers, one anchor after another."""

import numpy as np
import pytest
import torch

from autoseg.networks.box_geometry import centres, pairwise_iou
from autoseg.networks.region_proposals import anchors_at
from autoseg.planning.run_plan import BoxLossPlan
from autoseg.tasks.box_matching import (
    EITHER,
    NO_OBJECT,
    by_adaptive_overlap,
    by_overlap,
    drawn,
    matched_regions,
)

SHAPES = {2: (24, 32), 3: (8, 16, 16)}


def objects(dims: int, count: int) -> torch.Tensor:
    extent = torch.tensor(SHAPES[dims])
    low = torch.rand(count, dims) * (extent - 4)
    return torch.cat((low, low + 3 + 4 * torch.rand(count, dims)), dim=1)


def levels(dims: int) -> list[torch.Tensor]:
    """Two sizes about each place of two levels."""
    found = []
    for stride in (2, 4):
        shape = [n // stride for n in SHAPES[dims]]
        sizes = [(2.0 * stride,) * dims, (3.0 * stride,) * dims]
        found.append(anchors_at(sizes, (stride,) * dims, shape, torch.device("cpu")))
    return found


def slow_atss(anchors: list[torch.Tensor], boxes: torch.Tensor, candidates: int) -> list[int]:
    """Algorithm 1 of Zhang et al. 2020, without the demand that middles lie in objects."""
    every = torch.cat([level.flatten(0, 1) for level in anchors])
    best = [(0.0, NO_OBJECT)] * len(every)
    for number, box in enumerate(boxes):
        chosen: list[int] = []
        first = 0
        for level in anchors:
            flat = level.flatten(0, 1)
            apart = (centres(flat) - centres(box)).square().sum(1).numpy()
            order = np.argsort(apart, kind="stable")[: candidates * level.shape[1]]
            chosen += (first + order).tolist()
            first += len(flat)
        iou = pairwise_iou(box[None], every[chosen])[0]
        for index, one in zip(chosen, iou.tolist(), strict=True):
            if one > 0 and one >= float(iou.mean() + iou.std()) and one > best[index][0]:
                best[index] = (one, number)
    return [number for _, number in best]


@pytest.mark.parametrize("dims", [2, 3])
def test_anchors_are_matched_as_the_paper_has_it(dims: int) -> None:
    torch.manual_seed(dims)
    boxes, anchors = objects(dims, 9), levels(dims)
    found = by_adaptive_overlap(anchors, boxes, torch.ones(9, dtype=torch.bool), candidates=4)
    assert found.tolist() == slow_atss(anchors, boxes, 4)
    assert len(set(found.tolist())) == 10  # each object has some
    few = by_adaptive_overlap(anchors, boxes, torch.arange(9) < 3, candidates=4)
    assert set(few.tolist()) == {NO_OBJECT, 0, 1, 2}


def test_a_single_candidate_is_matched() -> None:
    anchors = [torch.tensor([[[0.0, 0, 4, 4]]])]
    boxes, there = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([True])
    assert by_adaptive_overlap(anchors, boxes, there, candidates=4).tolist() == [0]


def test_by_overlap_each_object_has_its_best_anchor() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 10], [20, 20, 22, 22], [7, 7, 9, 9]]
    )
    truth = torch.tensor([[0.0, 0, 4, 4], [20, 20, 28, 28], [0, 0, 1, 1]])
    there = torch.tensor([True, True, False])
    found = by_overlap(boxes, truth, there, (0.3, 0.7))
    # The same, 0.8, 0.4, an object's best at 1/16, and nothing.
    assert found.tolist() == [0, 0, EITHER, 1, NO_OBJECT]


def test_regions_are_matched_from_an_overlap_on() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 5], [0, 0, 4, 10]]])
    truth, there = (
        torch.tensor([[[9.0, 9, 11, 11], [0, 0, 4, 4]]]),
        torch.ones(1, 2, dtype=torch.bool),
    )
    assert matched_regions(boxes, truth, there, 0.5).tolist() == [[1, NO_OBJECT]]
    assert matched_regions(boxes, truth, ~there, 0.5).tolist() == [[NO_OBJECT, NO_OBJECT]]


def test_a_third_of_those_that_are_learned_from_have_an_object() -> None:
    torch.manual_seed(0)
    plan = BoxLossPlan(anchors=30, positive_share=1 / 3, hard_pool=2)
    match = torch.full((3, 500), NO_OBJECT)
    match[0, :40], match[1, :4], match[:, 400:] = 7, 7, EITHER
    logits = torch.linspace(1, 0, 500).expand(3, -1)
    positive, negative = drawn(match, logits, plan)
    assert positive.sum(1).tolist() == [10, 4, 0] and negative.sum(1).tolist() == [20, 8, 2]
    assert (match[positive] == 7).all() and (match[negative] == NO_OBJECT).all()
    # The likeliest of those without an object: twice as many as are wanted.
    assert [int(row.nonzero().max()) < n for row, n in zip(negative, (80, 20, 4), strict=True)] == [
        True
    ] * 3
