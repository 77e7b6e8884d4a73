import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.augmentation import intensity
from autoseg.augmentation.change import apply_changes

CPU = torch.device("cpu")


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).normal(size=(3, 16, 18, 14)).astype(np.float32)
    )


def test_blur_is_scipys_gaussian_filter(rows: torch.Tensor) -> None:
    before = rows.numpy().copy()
    sigma = np.array([[0.5, 0.8, 1.0], [0, 0, 0], [1.0, 1.0, 0.6]])
    apply_changes([intensity.blur(rows, sigma)], CPU)
    for row in (0, 2):
        radius = np.ceil(3 * sigma[row]).astype(int).tolist()
        expected = ndimage.gaussian_filter(before[row], sigma[row], mode="mirror", radius=radius)
        np.testing.assert_allclose(rows[row], expected, atol=1e-5)
    np.testing.assert_array_equal(rows[1], before[1])


def test_low_resolution_goes_down_to_the_nearest_and_up_linearly(rows: torch.Tensor) -> None:
    before = rows.clone()
    apply_changes(
        [intensity.lower_resolution(rows, np.array([0.5, 1.0, 0.75]), axes=(0, 1, 2))], CPU
    )
    small = torch.nn.functional.interpolate(before[:1, None], (8, 9, 7), mode="nearest-exact")
    expected = torch.nn.functional.interpolate(small, (16, 18, 14), mode="trilinear")[0, 0]
    torch.testing.assert_close(rows[0], expected, atol=1e-5, rtol=0)
    assert torch.equal(rows[1], before[1])
    assert not torch.equal(rows[2], before[2])


def test_planar_low_resolution_keeps_slices_apart(rows: torch.Tensor) -> None:
    rows[0] = torch.arange(16.0)[:, None, None]
    apply_changes([intensity.lower_resolution(rows, np.array([0.5, 1, 1]), axes=(1, 2))], CPU)
    torch.testing.assert_close(rows[0], torch.arange(16.0)[:, None, None].expand(16, 18, 14))


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_keeps_mean_and_deviation(rows: torch.Tensor, invert: bool) -> None:
    before = rows.clone()
    apply_changes([intensity.apply_gamma(rows, np.array([0.7, 1.0, 1.5]), invert)], CPU)
    for row in (0, 2):
        assert float(rows[row].mean()) == pytest.approx(float(before[row].mean()), abs=1e-4)
        assert float(rows[row].std()) == pytest.approx(float(before[row].std()), abs=1e-4)
        assert not torch.allclose(rows[row], before[row], atol=0.05)
    assert torch.equal(rows[1], before[1])


def test_gamma_below_one_brightens_and_inverted_darkens(rows: torch.Tensor) -> None:
    plain, inverted = rows[:1].clone(), rows[:1].clone()
    apply_changes([intensity.apply_gamma(plain, np.array([0.7]), invert=False)], CPU)
    apply_changes([intensity.apply_gamma(inverted, np.array([0.7]), invert=True)], CPU)

    def skewness(x: torch.Tensor) -> float:
        return float((((x - x.mean()) / x.std()) ** 3).mean())

    assert skewness(plain) < skewness(rows[:1]) < skewness(inverted)


def test_contrast_is_stretched_within_the_old_range(rows: torch.Tensor) -> None:
    before = rows.numpy().copy()
    apply_changes([intensity.scale_contrast(rows, np.array([1.25, 1.0, 0.75]))], CPU)
    for row, factor in ((0, 1.25), (1, 1.0), (2, 0.75)):
        x = before[row]
        expected = ((x - x.mean()) * factor + x.mean()).clip(x.min(), x.max())
        np.testing.assert_allclose(rows[row], expected, atol=1e-5)


def test_brightness_multiplies(rows: torch.Tensor) -> None:
    before = rows.clone()
    apply_changes([intensity.scale_brightness(rows, np.array([0.75, 1.0, 1.25]))], CPU)
    torch.testing.assert_close(rows, before * torch.tensor([0.75, 1.0, 1.25]).view(3, 1, 1, 1))


def test_noise_has_its_deviation_and_repeats_with_its_seed() -> None:
    image = torch.zeros(3, 2, 20, 20, 20)
    apply_changes([intensity.add_noise(image, [(0.1, 5), (0.0, 6), (0.1, 5)])], CPU)
    assert float(image[0].std()) == pytest.approx(0.1, rel=0.03)
    assert not image[1].any()
    assert torch.equal(image[0], image[2])
