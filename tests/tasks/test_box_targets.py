"""Boxes of objects beside those of scikit-image."""

import numpy as np
import pytest
import torch
from skimage.measure import regionprops

from autoseg.dataset.labels import IGNORED
from autoseg.planning.model_plan import BoxesPlan
from autoseg.tasks.box_targets import NO_CLASS, find_boxes


def numbered(dims: int, seed: int) -> np.ndarray:
    """Blocks of two of three classes, and numbers of those of the first."""
    rng = np.random.default_rng(seed)
    numbers = np.zeros((20, 24, 18)[:dims], np.int64)
    for number in (3, 1, 200, 7):
        low = [int(rng.integers(0, n - 6)) for n in numbers.shape]
        numbers[tuple(slice(a, a + int(rng.integers(2, 7))) for a in low)] = number
    return numbers


def plan_of(**kept: object) -> BoxesPlan:
    return BoxesPlan(classes=3, things=(1,), objects=6, mask_stride=(1, 1)).model_copy(update=kept)


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_are_around_what_the_patch_holds_of_objects(dims: int) -> None:
    both = [numbered(dims, seed) for seed in range(2)]
    objects = torch.from_numpy(np.stack(both))
    labels = (objects > 0).to(torch.uint8)
    labels[:, 0] = torch.where(labels[:, 0] > 0, 1, 2)  # what has no numbers has no box
    found = find_boxes(labels, objects, plan_of())
    for sample, numbers in enumerate(both):
        expected = sorted([float(n) for n in region.bbox] for region in regionprops(numbers))
        there = found.there[sample]
        assert sorted(found.boxes[sample][there].tolist()) == expected
        assert (found.classes[sample][there] == 1).all()
        assert (found.classes[sample][~there] == NO_CLASS).all()
    assert (found.boxes[..., dims:] > found.boxes[..., :dims]).all()


def test_the_border_of_objects_is_a_part_of_them() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.uint8)
    labels[0, 1:5, 1:5], labels[0, 2:4, 2:4] = 2, 1
    found = find_boxes(labels, (labels > 0).int(), plan_of(things=(1, 2), border=2))
    assert found.boxes[found.there].tolist() == [[1, 1, 5, 5]]
    assert found.classes[found.there].tolist() == [1]


def test_middles_of_boxes_may_be_unknown() -> None:
    labels = torch.zeros(1, 4, 6, dtype=torch.uint8)
    labels[0, :, 3:] = IGNORED
    found = find_boxes(labels, None, plan_of())
    boxes = torch.tensor([[[0.0, 0, 4, 5], [0, 2, 4, 6], [0, -9, 9, 3]]])
    assert found.known_at(boxes).tolist() == [[True, False, True]]
