import numpy as np
import pytest
from scipy.stats import spearmanr

from autoseg.evaluation.shifts import SHIFTS, shifted


@pytest.fixture
def image() -> np.ndarray:
    found: np.ndarray = np.random.default_rng(0).gamma(2, 50, (2, 12, 16, 18)).astype(np.float32)
    return found


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_the_same_for_equal_numbers_and_leaves_the_scan(
    name: str, image: np.ndarray
) -> None:
    before = image.copy()
    one, two = (shifted(image, name, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(image, before)
    assert one.dtype == np.float32 and one.shape == image.shape
    assert not np.array_equal(one, image)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_channel_of_one_value_stays_finite(name: str) -> None:
    assert np.isfinite(shifted(np.full((1, 4, 5, 6), 7.0), name, np.random.default_rng(0))).all()


def test_contrast_keeps_the_order_of_intensities(image: np.ndarray) -> None:
    changed = shifted(image, "contrast", np.random.default_rng(1))[0]
    assert spearmanr(image[0].ravel(), changed.ravel()).statistic == pytest.approx(1, abs=1e-6)
    assert (changed.min(), changed.max()) == pytest.approx((image[0].min(), image[0].max()))


def test_noise_is_of_the_strength_that_is_promised(image: np.ndarray) -> None:
    added = [shifted(image, "noise", np.random.default_rng(s)) - image for s in range(8)]
    shares = [a[0].std() / image[0].std() for a in added]
    assert min(shares) > 0.15 and max(shares) < 1.3 and np.ptp(shares) > 0.2


def test_missing_slices_are_missing_in_every_channel(image: np.ndarray) -> None:
    changed = shifted(image, "missing_slices", np.random.default_rng(2))
    lost = (changed == changed.min(axis=(1, 2, 3), keepdims=True)).all(axis=(2, 3))
    assert 0 < lost[0].sum() < 12
    np.testing.assert_array_equal(lost[0], lost[1])
    np.testing.assert_array_equal(changed[:, ~lost[0]], image[:, ~lost[0]])
