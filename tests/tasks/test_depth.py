import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.tasks.depth import depth_in_objects


def cells(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Numbered cells that touch one another, with some background between them."""
    rng = np.random.default_rng(len(shape))
    seeds = np.zeros(shape, int)
    seeds[tuple(rng.integers(0, size, count) for size in shape)] = np.arange(1, count + 1)
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    numbers: np.ndarray = np.where(distance < 5.5, seeds[tuple(nearest)], 0)
    return numbers


def reference_mm(numbers: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    depth = np.zeros(numbers.shape)
    for number in np.unique(numbers[numbers > 0]):
        own = numbers == number
        depth[own] = ndimage.distance_transform_edt(own, sampling=spacing_mm)[own]
    return depth


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((40, 33), (1.0, 0.5)), ((12, 20, 18), (2.0, 1.0, 0.7))]
)
def test_depths_are_scipys_of_each_object_alone(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    numbers = cells(shape, 12)
    depth, known = depth_in_objects(torch.from_numpy(numbers)[None], spacing_mm, 3.0)
    expected = np.minimum(reference_mm(numbers, spacing_mm), 3.0)
    np.testing.assert_allclose(depth[0][known[0]], expected[known[0]], atol=1e-5)
    assert known.float().mean() > 0.5


def test_what_is_known_in_a_patch_is_true_of_the_scan() -> None:
    numbers = cells((60, 60), 20)
    whole, _ = depth_in_objects(torch.from_numpy(numbers)[None], (1, 1), 6.0)
    part, known = depth_in_objects(torch.from_numpy(numbers[20:40, 15:45])[None], (1, 1), 6.0)
    torch.testing.assert_close(part[known], whole[:, 20:40, 15:45][known])
    assert 0.5 < known.float().mean() < 1  # near the patch's edge an object may go on


def test_objects_of_a_batch_do_not_touch() -> None:
    numbers = torch.ones((2, 9, 9), dtype=torch.int32)
    numbers[:, 0] = numbers[:, -1] = numbers[:, :, 0] = numbers[:, :, -1] = 0
    numbers[1] *= 7
    depth, _ = depth_in_objects(numbers, (1, 1), 10.0)
    assert depth[:, 4, 4].tolist() == [4, 4]
