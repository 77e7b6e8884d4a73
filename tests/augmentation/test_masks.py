import time
from collections.abc import Callable

import edt
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


def change_by_distances(classes: np.ndarray, drawn: MaskAugmentation) -> np.ndarray:
    """The same changes by distance transforms of whole patches."""

    def grown(mask: np.ndarray) -> np.ndarray:
        return np.asarray(edt.edt(~mask) <= drawn.radius_vox) if mask.any() else mask

    def shrunk(mask: np.ndarray) -> np.ndarray:
        return ~grown(~mask)

    operations: list[Callable[[np.ndarray], np.ndarray]] = [
        grown,
        shrunk,
        lambda mask: shrunk(grown(mask)),
        lambda mask: grown(shrunk(mask)),
    ]
    rng = np.random.default_rng(drawn.seed)
    changed = classes.copy()
    present = [value for value in np.unique(classes) if value]
    for value in present if drawn.radius_vox else ():
        before = changed == value
        after = operations[rng.integers(4)](before)
        changed[before & ~after] = 0
        changed[after] = value
    for value in present if drawn.loses_component else ():
        components, count = ndimage.label(changed == value, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())
        small = [i for i in range(1, count + 1) if sizes[i] < drawn.largest_lost_vox]
        if small:
            changed[components == small[rng.integers(len(small))]] = 0
    return changed


def random_classes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Blobs of three classes, or single voxels, everywhere or within a box only."""
    noise = rng.normal(size=shape)
    smooth: np.ndarray = ndimage.gaussian_filter(noise, rng.choice([0, 1, 3])) + 1e-6 * noise
    shares = np.sort(rng.uniform(0, 1, 3))
    classes: np.ndarray = 7 * np.digitize(smooth, np.quantile(smooth, shares)).astype(np.uint8)
    if rng.random() < 0.5:
        return classes
    boxed = np.zeros_like(classes)
    box = tuple(slice(*np.sort(rng.integers(0, size + 1, 2))) for size in shape)
    boxed[box] = classes[box]
    return boxed


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8])
def test_changes_are_those_of_distance_transforms_for_any_mask(radius: int) -> None:
    rng = np.random.default_rng(radius)
    for seed in range(30):
        shape = tuple(rng.integers(1, (24, 30, 140)).tolist())
        classes = random_classes(rng, shape)
        drawn = MaskAugmentation(radius, bool(rng.random() < 0.5), int(rng.integers(1, 400)), seed)
        expected = change_by_distances(classes, drawn)
        np.testing.assert_array_equal(change_mask(classes, drawn), expected, str(shape))


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value_change_as_by_distance_transforms(value: int) -> None:
    classes = np.full(SHAPE, value, np.uint8)
    for seed in range(8):
        drawn = MaskAugmentation(3, True, 10**6, seed)
        expected = change_by_distances(classes, drawn)
        np.testing.assert_array_equal(change_mask(classes, drawn), expected)


def test_changes_cost_a_fraction_of_distance_transforms() -> None:
    classes = random_classes(np.random.default_rng(5), (96, 96, 96))
    drawn = MaskAugmentation(8, True, 10**5, 0)
    spent_s = []
    for change in (change_mask, change_by_distances):
        change(classes, drawn)
        started = time.process_time()
        change(classes, drawn)
        spent_s.append(time.process_time() - started)
    assert spent_s[0] < spent_s[1] / 3
