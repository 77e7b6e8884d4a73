"""Suppression of all boxes at once beside going through them in order."""

import pytest
import torch

from autoseg.networks import suppression
from autoseg.networks.box_geometry import pairwise_iou
from autoseg.networks.suppression import ROUNDS, survivors


def in_order(boxes: torch.Tensor, overlap: float, kinds: list[int]) -> list[bool]:
    """The textbook's way: each box is kept if no kept one of its kind overlaps it."""
    iou = pairwise_iou(boxes, boxes).tolist()
    kept: list[int] = []
    for index, kind in enumerate(kinds):
        if all(iou[index][one] <= overlap or kinds[one] != kind for one in kept):
            kept.append(index)
    return [index in kept for index in range(len(boxes))]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("block", [128, 1000])
def test_survivors_are_those_of_going_through_boxes_in_order(
    dims: int, overlap: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppression, "BLOCK", block)
    torch.manual_seed(dims)
    extent, count = {2: 14, 3: 6}[dims], 306
    middle, half = extent * torch.rand(2, count, dims), 3 + 2 * torch.rand(2, count, dims)
    boxes = torch.cat((middle - half, middle + half), dim=-1)
    kinds = torch.randint(3, (2, count))
    found = survivors(boxes, overlap, kinds)
    for sample in range(2):
        expected = in_order(boxes[sample], overlap, kinds[sample].tolist())
        assert found[sample].tolist() == expected
        assert 0 < sum(expected) < count


def test_of_no_boxes_none_survives() -> None:
    assert survivors(torch.zeros(2, 0, 4), 0.5).shape == (2, 0)
    assert survivors(torch.tensor([[0, 0, 2, 2.0]], dtype=torch.float64), 0.5).tolist() == [True]


def test_what_a_suppressed_box_would_suppress_survives() -> None:
    # Each overlaps the next by a half of both, an IoU of a third, and the one after it not at all.
    low = torch.arange(ROUNDS - 1) * 2.0
    boxes = torch.stack((low, torch.zeros_like(low), low + 4, torch.ones_like(low)), dim=1)
    assert survivors(boxes, 0.3).tolist() == [index % 2 == 0 for index in range(ROUNDS - 1)]
    assert survivors(boxes, 0.4).all()
