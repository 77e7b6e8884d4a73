import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import pdist

from autoseg.postprocessing.extent import feret_diameter_mm

UPRIGHT = np.diag([3.0, 0.7, 0.7])
OBLIQUE = np.array([[0.4, 0.3, 2.5], [0.1, 0.9, 0.0], [0.8, -0.2, 0.1]])


def blob(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [1.0 if size > 1 else 0 for size in shape])
    mask: np.ndarray = smooth > np.quantile(smooth, 0.8)
    return mask


@pytest.mark.parametrize("steps_mm", [UPRIGHT, OBLIQUE])
@pytest.mark.parametrize("shape", [(6, 9, 8), (1, 14, 12), (7, 1, 9), (1, 1, 20), (2, 2, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_largest_distance_is_that_of_all_pairs(
    shape: tuple[int, int, int], steps_mm: np.ndarray, seed: int
) -> None:
    mask = blob(shape, seed)
    every = np.argwhere(mask) @ steps_mm
    expected = pdist(every).max() if len(every) > 1 else 0
    assert feret_diameter_mm(mask, steps_mm) == pytest.approx(expected, rel=1e-9)


def test_a_slanted_line_and_a_single_voxel() -> None:
    line = np.eye(5, dtype=bool)[None]
    assert feret_diameter_mm(line, UPRIGHT) == pytest.approx(4 * np.hypot(0.7, 0.7))
    assert feret_diameter_mm(np.ones((1, 1, 1), bool), UPRIGHT) == 0
