import numpy as np
import pytest
from scipy import ndimage

from autoseg.augmentation.masks import change_mask, close, grow, open_up, shrink
from autoseg.augmentation.sample import MaskAugmentation

SHAPE = (20, 22, 24)


@pytest.fixture
def blobs() -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2)
    return np.asarray(noise > np.quantile(noise, 0.8))


def ball(radius: int) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(-radius, radius + 1)] * 3)
    return np.asarray(sum(axis**2 for axis in axes) <= radius**2)


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_masks_change_as_scipys_by_a_ball(blobs: np.ndarray, radius: int) -> None:
    element = ball(radius)
    grown = ndimage.binary_dilation(blobs, element)
    shrunk = ndimage.binary_erosion(blobs, element, border_value=1)
    np.testing.assert_array_equal(grow(blobs, radius), grown)
    np.testing.assert_array_equal(shrink(blobs, radius), shrunk)
    closed = ndimage.binary_erosion(grown, element, border_value=1)
    np.testing.assert_array_equal(close(blobs, radius), closed)
    np.testing.assert_array_equal(open_up(blobs, radius), ndimage.binary_dilation(shrunk, element))


def test_a_mask_of_nothing_or_everything_stays() -> None:
    for mask in (np.zeros(SHAPE, bool), np.ones(SHAPE, bool)):
        for operation in (grow, shrink, close, open_up):
            np.testing.assert_array_equal(operation(mask, 3), mask)


def test_every_operation_is_drawn_and_classes_keep_apart(blobs: np.ndarray) -> None:
    classes = np.where(blobs, 2, 0).astype(np.uint8)
    classes[:5, :5, :5] = 1
    volumes = []
    for seed in range(40):
        changed = change_mask(classes, MaskAugmentation(2, False, 0, seed))
        assert set(np.unique(changed)) <= {0, 1, 2}
        volumes.append(int((changed == 2).sum()))
    assert min(volumes) < (classes == 2).sum() < max(volumes)
    assert len(set(volumes)) >= 4
    again = change_mask(classes, MaskAugmentation(2, False, 0, 7))
    np.testing.assert_array_equal(again, change_mask(classes, MaskAugmentation(2, False, 0, 7)))


def test_only_small_components_are_lost() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[2:12, 2:12, 2:12] = 1
    classes[15:17, 15:17, 15:17] = 1
    changed = change_mask(classes, MaskAugmentation(0, True, 100, 0))
    assert (changed == 1).sum() == 1000
    np.testing.assert_array_equal(change_mask(classes, MaskAugmentation(0, True, 5, 0)), classes)
