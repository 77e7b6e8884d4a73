"""Boxes beside voxels that are counted, and beside worked examples."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from autoseg.networks.box_geometry import (
    decoded,
    encoded,
    generalized_iou,
    pairwise_iou,
    within_patch,
)


def random_boxes(count: int, dims: int, seed: int) -> torch.Tensor:
    """With whole edges, so that their voxels can be counted."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 6, (count, dims))
    return torch.from_numpy(np.hstack((low, low + rng.integers(1, 6, (count, dims))))).float()


def voxels(box: torch.Tensor) -> set[tuple[int, ...]]:
    low, high = box.int().chunk(2)
    return set(product(*(range(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))))


@pytest.mark.parametrize("dims", [2, 3])
def test_overlap_is_that_of_their_voxels(dims: int) -> None:
    boxes, others = random_boxes(5, dims, 0), random_boxes(7, dims, 1)
    found = pairwise_iou(boxes, others)
    for i, j in product(range(5), range(7)):
        one, other = voxels(boxes[i]), voxels(others[j])
        assert found[i, j] == pytest.approx(len(one & other) / len(one | other))


def test_generalized_overlap_falls_with_distance_where_nothing_is_shared() -> None:
    box = torch.tensor([[0.0, 0, 2, 2]] * 4)
    others = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [0, 2, 2, 4], [0, 6, 2, 8]])
    # Of squares of 4: the same; 1 shared of 7 in a box of 9; side by side; half of a box is empty.
    expected = [1, 1 / 7 - 2 / 9, 0, -0.5]
    assert generalized_iou(box, others).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_are_what_they_were_encoded_from(dims: int) -> None:
    boxes, references = random_boxes(9, dims, 2), random_boxes(9, dims, 3)
    torch.testing.assert_close(decoded(encoded(boxes, references), references), boxes)


def test_a_box_moved_by_its_side_and_twice_as_long_is_encoded_as_the_papers_do() -> None:
    reference, box = torch.tensor([[0.0, 0, 4, 8]]), torch.tensor([[3.0, 0, 9, 8]])
    # Its middle moves from 2 to 6, which is one side; 6 is 1.5 times as long as 4.
    assert encoded(box, reference)[0].tolist() == pytest.approx([1, 0, math.log(1.5), 0])


def test_what_lies_beyond_a_patch_is_cut_but_for_a_voxel() -> None:
    boxes = torch.tensor([[-3.0, 2, 5, 30], [20, -9, 25, -4]])
    assert within_patch(boxes, (10, 12)).tolist() == [[0, 2, 5, 12], [9, 0, 10, 1]]


def test_slices_are_boxes_of_one_voxel_more() -> None:
    flat, others = random_boxes(4, 2, 4), random_boxes(4, 2, 5)

    def deep(boxes: torch.Tensor) -> torch.Tensor:
        zero, one = torch.zeros(len(boxes), 1), torch.ones(len(boxes), 1)
        return torch.cat((zero, boxes[:, :2], one, boxes[:, 2:]), dim=1)

    torch.testing.assert_close(pairwise_iou(deep(flat), deep(others)), pairwise_iou(flat, others))
    expected = generalized_iou(flat, others)
    torch.testing.assert_close(generalized_iou(deep(flat), deep(others)), expected)
