"""Covers: batch, change, sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.augmentation.policy import (
    BatchShape,
    augment_batch,
    draw_augmentation,
    no_augmentation,
)
from autoseg.augmentation.sample import RawSample
from autoseg.planning.decisions import AugmentationSettings
from autoseg.planning.rules import load_rule_set
from autoseg.planning.run_plan import AugmentationPlan
from tests.planning.test_rules import FACTS

PATCH = (8, 10, 12)


def published(planar: bool = False) -> AugmentationPlan:
    settings = load_rule_set("nnunet").decide("augmentation", FACTS)[0]
    assert isinstance(settings, AugmentationSettings)
    values = settings.model_dump(include=set(AugmentationPlan.model_fields))
    return AugmentationPlan(planar=planar, mirror_axes=(0, 1, 2), **values)


def test_transforms_come_as_often_and_as_strong_as_the_policy_says() -> None:
    policy = published()
    drawn = [draw_augmentation(policy, 1, PATCH, np.random.default_rng(i)) for i in range(4000)]
    share_warped = np.mean([d.matrix is not None for d in drawn])
    assert share_warped == pytest.approx(1 - 0.8 * 0.8, abs=0.03)
    assert np.mean([d.noise_std > 0 for d in drawn]) == pytest.approx(0.1, abs=0.02)
    assert np.mean([d.blur_sigma_vox.any() for d in drawn]) == pytest.approx(0.1, abs=0.02)
    assert np.mean([d.low_resolution[0] < 1 for d in drawn]) == pytest.approx(0.125, abs=0.02)
    assert np.mean([d.gamma[0] != 1 for d in drawn]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([0 in d.mirrored_axes for d in drawn]) == pytest.approx(0.5, abs=0.03)
    brightness = np.array([d.brightness[0] for d in drawn if d.brightness[0] != 1])
    assert 0.75 <= brightness.min() < 0.77
    assert 1.23 < brightness.max() <= 1.25
    assert np.mean(brightness < 1) == pytest.approx(0.5, abs=0.06)
    volumes = [abs(np.linalg.det(d.matrix)) for d in drawn if d.matrix is not None]
    assert min(volumes) >= 0.7**3 - 1e-9
    assert max(volumes) <= 1.4**3 + 1e-9


def test_planar_patches_turn_within_their_slices() -> None:
    policy = published(True)
    for seed in range(200):
        matrix = draw_augmentation(policy, 1, PATCH, np.random.default_rng(seed)).matrix
        if matrix is not None:
            np.testing.assert_allclose(matrix[0], [1, 0, 0])
            np.testing.assert_allclose(matrix[:, 0], [1, 0, 0])


def test_the_same_generator_state_draws_the_same() -> None:
    one = draw_augmentation(published(), 2, PATCH, np.random.default_rng(3))
    two = draw_augmentation(published(), 2, PATCH, np.random.default_rng(3))
    np.testing.assert_array_equal(one.gamma, two.gamma)
    assert one.noise_seed == two.noise_seed


def test_voxels_outside_the_body_return_to_0() -> None:
    rng = np.random.default_rng(0)
    outside = rng.random((8, 8, 8)) < 0.5
    image = np.where(outside, 0, rng.normal(size=(2, 8, 8, 8))).astype(np.float32)
    noisy = replace(no_augmentation(2), noise_std=1.0)
    label = np.zeros((8, 8, 8), np.uint8)
    sample = RawSample("a", image, label, outside, {}, np.full(3, 3.5), noisy)
    batch = augment_batch([sample], BatchShape((8, 8, 8), (0,), False), torch.device("cpu"))
    assert not batch.image[0, 0][torch.from_numpy(outside)].any()
    assert batch.image[0, 1][torch.from_numpy(outside)].any()
