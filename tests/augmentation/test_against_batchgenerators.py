"""Every transform with the same parameters as batchgenerators', which nnU-Net v2 was built on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batchgenerators.augmentations.color_augmentations import (
    augment_brightness_multiplicative,
    augment_contrast,
    augment_gamma,
)
from batchgenerators.augmentations.noise_augmentations import (
    augment_gaussian_blur,
    augment_gaussian_noise,
)
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from batchgenerators.augmentations.spatial_transformations import (
    augment_mirroring,
    augment_spatial,
)
from scipy import ndimage

from autoseg.augmentation import intensity
from autoseg.augmentation.change import apply_changes
from autoseg.augmentation.policy import no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import Patches, cut_patches, rotation_matrix, source_box
from autoseg.geometry import Shape3
from autoseg.preprocessing.store import StoredCase

CPU = torch.device("cpu")
SHAPE: Shape3 = (40, 44, 42)
PATCH: Shape3 = (12, 14, 10)
MIDDLE = (14, 15, 16)  # where a patch starts whose centre is the scan's
ROUNDING = 2e-5  # of float32, in images whose standard deviation is 1


@pytest.fixture(autouse=True)
def every_draw_is_the_low_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges (low, high) then mean the parameter low, and whatever is left to chance happens."""
    monkeypatch.setattr(np.random, "uniform", lambda low=0.0, high=1.0, size=None: low)
    monkeypatch.setattr(np.random, "random", lambda: 0.0)


@pytest.fixture
def rows() -> np.ndarray:
    """Two channels [row, z, y, x] of a smooth, skewed image, standardised."""
    noise = np.random.default_rng(0).normal(size=(2, 24, 22, 20))
    image = np.exp(ndimage.gaussian_filter(noise, (0, 1, 1, 1)) * 4)
    return np.asarray((image - image.mean()) / image.std()).astype(np.float32)


def both(value: float) -> np.ndarray:
    return np.full(2, value)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_brightness(rows: np.ndarray, factor: float) -> None:
    found = torch.from_numpy(rows.copy())
    apply_changes([intensity.scale_brightness(found, both(factor))], CPU)
    expected = augment_brightness_multiplicative(rows, (factor, factor))
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast(rows: np.ndarray, factor: float) -> None:
    found = torch.from_numpy(rows.copy())
    apply_changes([intensity.scale_contrast(found, both(factor))], CPU)
    expected = augment_contrast(rows.copy(), (factor, max(factor, 1.0)), preserve_range=True)
    assert np.abs(expected - rows).max() > 0.3
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("gamma", [0.7, 1.5])
def test_gamma(rows: np.ndarray, gamma: float, invert: bool) -> None:
    # We divide by the range, batchgenerators by the range + 1e-7. Our standard deviations divide
    # by n - 1 and its by n, which drops out of their ratio.
    found = torch.from_numpy(rows.copy())
    apply_changes([intensity.apply_gamma(found, both(gamma), invert)], CPU)
    upper = max(gamma, 1.0)
    expected = augment_gamma(
        rows.copy(), (gamma, upper), invert, per_channel=True, retain_stats=True
    )
    assert np.abs(expected - rows).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.5, ROUNDING), (1.0, 4e-3)])
def test_blur_away_from_the_borders(rows: np.ndarray, sigma: float, tolerance: float) -> None:
    # We cut Gaussians off at 3 standard deviations, it does at 4: 0.03 % of the weight along each
    # axis at sigma 1, in an image that spans 22; nothing at 0.5. At borders we do not repeat the
    # outermost voxel, as it does.
    found = torch.from_numpy(rows.copy())
    apply_changes([intensity.blur(found, np.full((2, 3), sigma))], CPU)
    expected = augment_gaussian_blur(rows.copy(), (sigma, sigma), per_channel=True)
    inner = (slice(None), *(slice(4, -4),) * 3)
    assert np.abs(expected - rows).max() > 0.1
    np.testing.assert_allclose(found[inner], expected[inner], atol=tolerance)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("zoom", [0.5, 0.6, 0.83])
def test_low_resolution(rows: np.ndarray, zoom: float, planar: bool) -> None:
    found = torch.from_numpy(rows.copy())
    apply_changes(
        [intensity.lower_resolution(found, both(zoom), (1, 2) if planar else (0, 1, 2))], CPU
    )
    expected = augment_linear_downsampling_scipy(
        rows.copy(),
        (zoom, 1),
        order_downsample=0,
        order_upsample=1,
        ignore_axes=(0,) if planar else None,
    )
    assert np.abs(expected - rows).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_noise_is_as_strong() -> None:
    # What batchgenerators calls the variance is the standard deviation.
    found = torch.zeros(1, 1, 40, 40, 40)
    apply_changes([intensity.add_noise(found, [(0.1, 0)])], CPU)
    expected = augment_gaussian_noise(np.zeros((1, 40, 40, 40)), (0.1, 0.1))
    assert float(found.std()) == pytest.approx(expected.std(), rel=0.02)
    assert float(found.mean()) == pytest.approx(expected.mean(), abs=0.002)


@pytest.fixture
def case() -> StoredCase:
    noise = np.random.default_rng(0).normal(size=SHAPE)
    image = ndimage.gaussian_filter(noise, 1.5).astype(np.float32) * 5
    label = np.digitize(image, [-0.5, 0.5]).astype(np.uint8)
    return StoredCase(SHAPE, image[None], label, None, {})


def ours(case: StoredCase, degrees: list[float], scale: np.ndarray, patch: Shape3) -> Patches:
    matrix = rotation_matrix(np.deg2rad(degrees)) @ np.diag(scale)
    drawn = replace(no_augmentation(1), matrix=matrix)
    box, centre = source_box(MIDDLE, patch, drawn)
    read = case.read(box)
    sample = RawSample("a", read.image, read.label, None, {}, centre, drawn)
    return cut_patches([sample], patch, CPU)


def theirs(
    image: np.ndarray, label: np.ndarray, patch: tuple[int, ...], turn: list[float], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Image and label [1, channel, ...] turned by degrees about each axis."""
    angles = [(np.deg2rad(angle), np.deg2rad(angle)) for angle in (*turn, 0, 0)]
    moved: tuple[np.ndarray, np.ndarray] = augment_spatial(
        image,
        label.astype(np.float32),
        patch,
        do_elastic_deform=False,
        angle_x=angles[0],
        angle_y=angles[1],
        angle_z=angles[2],
        scale=(scale, max(scale, 1.0)),
        border_mode_data="constant",
        order_data=1,
        order_seg=1,
        random_crop=False,
    )
    return moved


def indicators(label: np.ndarray) -> np.ndarray:
    """Where each of the three classes is [1, class, ...]."""
    return np.stack([label == value for value in range(3)]).astype(np.float32)[None]


def assert_equal_where_clear(found: np.ndarray, expected: np.ndarray, shares: np.ndarray) -> None:
    """Where two classes have equal shares [class, ...] of a voxel, rounding decides."""
    lead = np.diff(np.sort(shares, axis=0)[-2:], axis=0)[0]
    clear = lead > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected[clear])


@pytest.mark.parametrize("scale", [0.8, 1.4])
@pytest.mark.parametrize("turn", [[0, 0, 30], [20, 0, 0], [0, -25, 0], [20, -25, 30]])
def test_rotation_and_scaling(case: StoredCase, turn: list[float], scale: float) -> None:
    # batchgenerators multiplies by its matrix from the right: it turns the other way round, except
    # about the second axis, for which its matrix is the transpose of ours already.
    x, y, z = turn
    found = ours(case, [-x, y, -z], np.full(3, scale), PATCH)
    image, label = theirs(case.image[None], case.label[None, None], PATCH, turn, scale)
    np.testing.assert_allclose(found.image[0], image[0], atol=5e-4)
    shares, _ = theirs(indicators(case.label), case.label[None, None], PATCH, turn, scale)
    assert_equal_where_clear(found.label[0].numpy(), label[0, 0], shares[0])


@pytest.mark.parametrize("scale", [0.8, 1.4])
def test_planar_rotation_and_scaling(case: StoredCase, scale: float) -> None:
    # Slices are channels of a flat image there.
    found = ours(case, [-35, 0, 0], np.array([1, scale, scale]), PATCH)
    slices = slice(MIDDLE[0], MIDDLE[0] + PATCH[0])
    flat_image, flat_label = case.image[:, slices], case.label[None, slices]
    image, label = theirs(flat_image, flat_label, PATCH[1:], [35], scale)
    np.testing.assert_allclose(found.image[0, 0], image[0], atol=5e-4)
    for index, slice_label in enumerate(flat_label[0]):
        shares, _ = theirs(indicators(slice_label), flat_label, PATCH[1:], [35], scale)
        assert_equal_where_clear(found.label[0, index].numpy(), label[0, index], shares[0])


def test_mirroring(case: StoredCase) -> None:
    drawn = replace(no_augmentation(1), mirrored_axes=(0, 2))
    sample = RawSample("a", case.image, case.label, None, {}, np.zeros(3), drawn)
    found = cut_patches([sample], SHAPE, CPU)
    image, label = augment_mirroring(case.image.copy(), case.label[None].copy(), (0, 2))
    np.testing.assert_array_equal(found.image[0], image)
    np.testing.assert_array_equal(found.label[0], label[0])
