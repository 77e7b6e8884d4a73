import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from autoseg.postprocessing.instances import InstanceRule, label_instances
from autoseg.postprocessing.valleys import ValleyRule, part_at_valleys


def two_halves(shape: tuple[int, int, int] = (1, 20, 41)) -> tuple[np.ndarray, np.ndarray]:
    """One box of two objects that no neck tells apart, and the depth of voxels in each."""
    numbers = np.zeros(shape, int)
    numbers[..., 2:18, 3:20], numbers[..., 2:18, 20:38] = 1, 2
    depth = np.zeros(shape)
    for number in (1, 2):
        own = numbers == number
        depth[own] = ndimage.distance_transform_edt(own[0])[own[0]] / 8
    return numbers, depth


def test_a_valley_parts_what_has_no_neck() -> None:
    numbers, depth = two_halves()
    parts = part_at_valleys(numbers > 0, depth, (1, 1, 1), ValleyRule())
    assert parts is not None and parts.max() == 2
    # voxels on a ridge may be given to either side by one voxel at most
    agree = np.maximum((parts == numbers).mean(), (parts == (3 - numbers) * (numbers > 0)).mean())
    assert agree == 1


def test_a_shallow_valley_parts_nothing() -> None:
    numbers, depth = two_halves()
    flat = np.where(numbers > 0, np.maximum(depth, 0.95 * depth.max()), 0)
    assert part_at_valleys(numbers > 0, flat, (1, 1, 1), ValleyRule(prominence=0.1)) is None
    assert part_at_valleys(numbers > 0, depth, (1, 1, 1), ValleyRule(), min_voxels=300) is None


def test_a_valley_that_was_learned_too_shallow_parts_too() -> None:
    numbers, depth = two_halves()
    filled = np.where(numbers > 0, np.maximum(depth, 0.65 * depth.max()), 0)
    parts = part_at_valleys(numbers > 0, filled, (1, 1, 1), ValleyRule())
    assert parts is not None and parts.max() == 2
    assert part_at_valleys(numbers > 0, filled, (1, 1, 1), ValleyRule(prominence=0.4)) is None


def test_parts_are_those_of_scikit_images_watershed() -> None:
    rng = np.random.default_rng(3)
    depth = ndimage.gaussian_filter(rng.random((1, 40, 40)), (0, 3, 3))
    depth = ((depth - depth.min()) / np.ptp(depth)).astype(np.float32) + 0.01
    mask = np.ones(depth.shape, bool)
    parts = part_at_valleys(mask, depth, (1, 1, 1), ValleyRule(prominence=0, min_prominence=0))
    assert parts is not None
    peaks = [np.argwhere((parts == p) & (depth == depth[parts == p].max()))[0] for p in
             range(1, parts.max() + 1)]  # fmt: skip
    markers = np.zeros(depth.shape, int)
    markers[tuple(np.transpose(peaks))] = np.arange(1, len(peaks) + 1)
    expected = watershed(-depth, markers, connectivity=np.ones((3, 3, 3)))
    assert (parts == expected).mean() > 0.9  # floods differ from steepest ways by the rims


def test_a_learned_depth_decides_in_place_of_necks() -> None:
    numbers, depth = two_halves()
    found, objects = label_instances(
        (numbers > 0).astype(np.uint8), (1, 1, 1), InstanceRule(), depth[None]
    )
    assert len(objects) == 2 and (found > 0).sum() == (numbers > 0).sum()
    assert len(label_instances((numbers > 0).astype(np.uint8), (1, 1, 1), InstanceRule())[1]) == 1


@pytest.mark.parametrize("value", [-5.0, 0.0])
def test_depths_below_nothing_are_no_mistake(value: float) -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 2:7, 2:7] = True
    assert part_at_valleys(mask, np.full(mask.shape, value), (1, 1, 1), ValleyRule()) is None
