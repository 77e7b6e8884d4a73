"""Centrelines against scikit-image's of the whole array."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from autoseg.evaluation.centreline import centreline_of


@pytest.mark.parametrize("smooth_vox", [0.0, 0.8, 1.5])
@pytest.mark.parametrize("shape", [(40, 44, 48), (3, 50, 50), (1, 60, 60)])
def test_components_thinned_one_by_one_are_those_thinned_at_once(
    shape: tuple[int, ...], smooth_vox: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoseg.evaluation.centreline.SETTING_UP_VOX", -(10**9))  # never at once
    noise = np.random.default_rng(0).random(shape)
    mask = ndimage.gaussian_filter(noise, smooth_vox) > (0.53 if smooth_vox else 0.98)
    mask[:, 10:24, 12:30] = True  # one that is thick, among many
    assert np.array_equal(centreline_of(mask), np.asarray(skeletonize(mask), bool))


def test_passes_of_a_thick_component_do_not_look_at_distant_speckles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[int] = []

    def seen(mask: np.ndarray) -> np.ndarray:
        if ndimage.distance_transform_edt(mask).max() > 3:
            looked_at.append(mask.size)
        return np.asarray(skeletonize(mask), bool)

    monkeypatch.setattr("skimage.morphology.skeletonize", seen)
    mask = np.zeros((40, 40, 40), bool)
    mask[4:16, 4:16, 4:16] = mask[38, 38, 38] = True
    centreline_of(mask)
    assert looked_at == [12**3]
