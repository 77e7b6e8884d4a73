"""RoIAlign beside a slow one written from the paper, and masks beside scipy's interpolation."""

from itertools import product
from math import ceil

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from autoseg.networks.roi_align import Pyramid, pasted, roi_align

FEATURES = 3


def boxes_in(size: tuple[int, ...], count: int) -> torch.Tensor:
    """Random ones [2, count, 2 x axis]."""
    extent = torch.tensor(size)
    low = torch.rand(2, count, len(size)) * extent * 0.7
    return torch.cat((low, low + 1 + torch.rand_like(low) * (extent - low - 1)), dim=-1)


def slow_roi_align(
    features: NDArray[np.float32], box: NDArray[np.float32], bins: int, samples: int | None
) -> NDArray[np.float64]:
    """Of one map [feature, *space] and one box in its voxels: bin by bin, sample by sample."""
    dims = features.ndim - 1
    found = np.zeros((len(features), *[bins] * dims))
    width = (box[dims:] - box[:dims]) / bins
    many = [samples or min(4, max(1, ceil(w))) for w in width]
    for place in product(range(bins), repeat=dims):
        spots = [
            [box[a] + width[a] * (place[a] + (s[a] + 0.5) / many[a]) - 0.5 for a in range(dims)]
            for s in product(*map(range, many))
        ]
        for index, one in enumerate(features):
            values = map_coordinates(one, np.array(spots).T, order=1, mode="nearest")
            found[(index, *place)] = values.mean()
    return found


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, None])
def test_bins_are_means_of_interpolated_samples(dims: int, samples: int | None) -> None:
    torch.manual_seed(0)
    size = (9, 12, 10)[:dims]
    features = torch.randn(2, FEATURES, *size)
    boxes = boxes_in(size, 4)
    found = roi_align(Pyramid([features], [(1,) * dims]), boxes, (3,) * dims, samples)
    for sample, index in product(range(2), range(4)):
        expected = slow_roi_align(
            features[sample].numpy(), boxes[sample, index].numpy(), 3, samples
        )
        np.testing.assert_allclose(found[4 * sample + index], expected, atol=1e-5)


def test_regions_are_seen_where_they_are_about_ten_voxels_wide() -> None:
    strides = [(1, 2, 2), (2, 4, 4), (4, 8, 8)]
    torch.manual_seed(1)
    maps = [torch.randn(2, FEATURES, *(32 // s for s in stride)) for stride in strides]
    pyramid = Pyramid(maps, strides)
    boxes = torch.tensor([[[0.0, 0, 0, 4, 8, 8], [0, 0, 0, 16, 32, 32], [2, 0, 4, 30, 32, 32]]])
    boxes = boxes.expand(2, -1, -1)
    # 4 x 8 x 8 is 4 voxels wide at the finest; 16 x 32 x 32 is 16 there and 8 at the next.
    assert pyramid.level_of(boxes).tolist() == [[0, 1, 1]] * 2
    found = roi_align(pyramid, boxes, (2, 2, 2), 1)
    box = boxes[1, 1].numpy() / np.array([2, 4, 4] * 2)
    expected = slow_roi_align(maps[1][1].numpy(), box.astype(np.float32), 2, 1)
    np.testing.assert_allclose(found[4], expected, atol=1e-5)


def test_slices_are_volumes_of_one() -> None:
    torch.manual_seed(2)
    features, boxes = torch.randn(2, FEATURES, 11, 13), boxes_in((11, 13), 5)
    deep = torch.cat(
        (torch.zeros(2, 5, 1), boxes[..., :2], torch.ones(2, 5, 1), boxes[..., 2:]), dim=-1
    )
    flat = roi_align(Pyramid([features], [(1, 1)]), boxes, (4, 4), 2)
    found = roi_align(Pyramid([features[:, :, None]], [(1, 1, 1)]), deep, (1, 4, 4), 2)
    torch.testing.assert_close(found[:, :, 0], flat)
    masks = torch.randn(10, 4, 4)
    together = pasted(masks[:, None], deep.flatten(0, 1), (1, 11, 13), (1, 1, 1), -9)
    torch.testing.assert_close(
        together[:, 0], pasted(masks, boxes.flatten(0, 1), (11, 13), (1, 1), -9)
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_masks_are_interpolated_in_their_boxes_and_nothing_beyond(stride: int) -> None:
    torch.manual_seed(3)
    masks, boxes = torch.randn(8, 5, 6), boxes_in((12, 16), 4).flatten(0, 1)
    size = (12 // stride, 16 // stride)
    found = pasted(masks, boxes, size, (stride, stride), -9)
    for mask, (y0, x0, y1, x1), one in zip(masks, boxes.tolist(), found, strict=True):
        y, x = (np.indices(size) + 0.5) * stride
        places = [(y - y0) / (y1 - y0) * 5 - 0.5, (x - x0) / (x1 - x0) * 6 - 0.5]
        expected = map_coordinates(mask.numpy(), places, order=1, mode="nearest")
        inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        np.testing.assert_allclose(one, np.where(inside, expected, -9), atol=1e-5)


def test_features_learn_from_what_regions_hold() -> None:
    features = torch.randn(1, 1, 6, 6, requires_grad=True)
    boxes = torch.tensor([[[1.0, 1, 3, 3]]])
    roi_align(Pyramid([features], [(1, 1)]), boxes, (2, 2), 1).sum().backward()  # type: ignore[no-untyped-call]
    expected = torch.zeros(6, 6)
    expected[1:3, 1:3] = 1
    assert features.grad is not None
    torch.testing.assert_close(features.grad[0, 0], expected)
