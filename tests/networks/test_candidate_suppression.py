import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autoseg.networks.box_geometry import pairwise_iou
from autoseg.networks.candidate_suppression import fast_keep, mask_overlaps, matrix_decay

Array = NDArray[np.float64]


def iou(one: Array, other: Array) -> float:
    return float((one * other).sum() / max(1, np.maximum(one, other).sum()))


def slow_decay(masks: Array, classes: NDArray[np.int64]) -> list[float]:
    """Equation 4 of SOLOv2, candidate by candidate."""
    left = []
    for j in range(len(masks)):
        factors = [1.0]
        for i in range(j):
            if classes[i] != classes[j]:
                continue
            before = [iou(masks[k], masks[i]) for k in range(i) if classes[k] == classes[i]]
            own, lost = iou(masks[i], masks[j]), max(before, default=0.0)
            factors.append(np.exp(-2 * own**2) / np.exp(-2 * lost**2))
        left.append(min(factors))
    return left


def slow_keep(boxes: Array, classes: NDArray[np.int64], most: float) -> list[bool]:
    kept = []
    for j, box in enumerate(boxes):
        others = [boxes[i] for i in range(j) if classes[i] == classes[j]]
        kept.append(all(box_iou(box, other) <= most for other in others))
    return kept


def box_iou(one: Array, other: Array) -> float:
    (low, high), (other_low, other_high) = np.split(one, 2), np.split(other, 2)
    both = float(np.prod((np.minimum(high, other_high) - np.maximum(low, other_low)).clip(0)))
    sizes = [float(np.prod(high - low)), float(np.prod(other_high - other_low))]
    return both / (sum(sizes) - both)


def some_boxes(dims: int) -> Array:
    rng = np.random.default_rng(dims)
    low = rng.uniform(0, 5, (30, dims))
    return np.concatenate((low, low + rng.uniform(3, 9, (30, dims))), axis=-1)


CLASSES = np.random.default_rng(0).integers(1, 3, 30)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_masks_overlap_in_half_precision_as_in_single(dtype: torch.dtype) -> None:
    masks = torch.zeros(1, 3, 200_000)
    for mask, (first, last) in enumerate(((0, 150_000), (50_000, 200_000), (0, 100))):
        masks[0, mask, first:last] = 1
    with torch.autocast("cpu", dtype):
        found = mask_overlaps(masks)
    torch.testing.assert_close(found, mask_overlaps(masks), atol=1e-2, rtol=1e-2)
    assert mask_overlaps(masks)[0, 0, 1] == pytest.approx(0.5, abs=1e-3)


def test_matrix_nms_is_that_of_candidates_one_by_one() -> None:
    masks = (np.random.default_rng(0).random((30, 12)) < 0.6).astype(float)
    overlaps = mask_overlaps(torch.from_numpy(masks)[None])
    found = matrix_decay(overlaps, torch.from_numpy(CLASSES)[None])[0]
    np.testing.assert_allclose(found.numpy(), slow_decay(masks, CLASSES), rtol=1e-9)


def test_a_worked_example_of_matrix_nms() -> None:
    masks = torch.tensor([[[1, 1, 1, 1.0], [1, 1, 1, 0], [0, 0, 0, 1]]])
    classes = torch.tensor([[1, 1, 1]])
    first, second, third = matrix_decay(mask_overlaps(masks), classes)[0].tolist()
    assert first == 1 and second == pytest.approx(np.exp(-2 * 0.75**2))
    assert third == pytest.approx(np.exp(-2 * 0.25**2))
    apart = matrix_decay(mask_overlaps(masks), torch.tensor([[1, 2, 3]]))
    assert apart.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("most", [0.3, 0.5])
def test_fast_nms_is_that_of_candidates_one_by_one(dims: int, most: float) -> None:
    boxes = some_boxes(dims)
    given = torch.from_numpy(boxes)[None]
    kept = fast_keep(pairwise_iou(given, given), torch.from_numpy(CLASSES)[None], most)[0]
    assert kept.tolist() == slow_keep(boxes, CLASSES, most)
    assert 0 < int(kept.sum()) < len(boxes)


def test_fast_nms_lets_one_that_is_dropped_drop_others() -> None:
    boxes = torch.tensor([[[0.0, 10], [3, 13], [6, 16]]])  # along one axis
    kept = fast_keep(pairwise_iou(boxes, boxes), torch.ones(1, 3), 0.5)
    assert kept.tolist() == [[True, False, False]]  # the third overlaps the first by a quarter
