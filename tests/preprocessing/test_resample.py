import numpy as np
import pytest
from batchgenerators.augmentations.utils import resize_segmentation
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from autoseg.preprocessing.resample import (
    interpolation_matrix,
    resample_classes,
    resample_image,
    resample_numbers,
    separate_axis,
)


def smooth_noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth: np.ndarray = ndimage.gaussian_filter(noise, 1.0).astype(np.float32) * 4
    return smooth


@settings(max_examples=60, deadline=None)
@given(
    size_in=st.integers(1, 80),
    size_out=st.integers(1, 80),
    order=st.sampled_from([0, 1, 3]),
)
def test_each_axis_is_resampled_as_scipy_does(size_in: int, size_out: int, order: int) -> None:
    line = np.random.default_rng(size_in).normal(size=size_in)
    expected = ndimage.zoom(line, size_out / size_in, order=order, mode="nearest", grid_mode=True)
    found = interpolation_matrix(size_in, size_out, order) @ line
    assert len(expected) == size_out
    positions = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    halfway = np.isclose(positions % 1, 0.5) & (order == 0)  # either neighbour is nearest
    np.testing.assert_allclose(found[~halfway], expected[~halfway], atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(21, 40, 20), (30, 25, 38), (13, 31, 29)])
def test_images_are_resampled_as_scikit_image_does(order: int, shape: tuple[int, int, int]) -> None:
    image = smooth_noise((17, 31, 29))
    expected = resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(
        resample_image(image[None], shape, order, None)[0], expected, atol=2e-5
    )


def test_a_coarse_axis_is_taken_from_the_nearest_slice() -> None:
    image = smooth_noise((6, 31, 29))
    shape = (15, 40, 20)
    planes = np.stack(
        [resize(p.astype(float), shape[1:], 3, mode="edge", anti_aliasing=False) for p in image]
    )
    nearest = np.floor((np.arange(15) + 0.5) * 6 / 15).astype(int)
    found = resample_image(image[None], shape, 3, separate=0)[0]
    np.testing.assert_allclose(found, planes[nearest], atol=2e-5)


@pytest.mark.parametrize("shape", [(21, 40, 20), (34, 62, 58), (13, 31, 29), (9, 12, 11)])
def test_labels_are_resampled_as_batchgenerators_does(shape: tuple[int, int, int]) -> None:
    classes = np.digitize(smooth_noise((17, 31, 29)), [-0.8, 0.5, 1.2]).astype(np.uint8)
    expected = resize_segmentation(classes, shape, 1)
    found = resample_classes(classes, shape, 1, None)
    assert np.mean(found != expected) < 1e-3  # ties alone differ
    assert set(np.unique(found)) == set(np.unique(expected))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 5, 1), 1),
        ((3, 1, 1), (3, 1, 1), None),
        ((5, 5, 1), (1, 1, 1), None),
        ((1, 5, 1), (5, 1, 1), 1),
    ],
)
def test_the_separate_axis_is_the_sources_then_the_targets(
    source: tuple[float, float, float], target: tuple[float, float, float], expected: int | None
) -> None:
    assert separate_axis(source, target, 3) == expected


def test_numbered_objects_are_never_mixed() -> None:
    numbers = np.zeros((8, 9, 10), np.uint16)
    numbers[1:5, 1:5, 1:5], numbers[1:5, 1:5, 5:9] = 1, 1000
    inside = np.ones((13, 14, 15), bool)
    inside[:, :, 14] = False
    found = resample_numbers(numbers, inside)
    assert sorted(np.unique(found)) == [0, 1, 1000]
    assert found[~inside].max() == 0 and (found[inside] > 0).all()  # those near take the rest
    factors = np.array(inside.shape) / numbers.shape
    nearest = ndimage.zoom(numbers, factors, order=0, mode="nearest", grid_mode=True)
    there = inside & (nearest > 0)
    assert (found[there] == nearest[there]).mean() > 0.97  # voxels half-way may go either way
