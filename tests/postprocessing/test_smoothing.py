import numpy as np
import pytest
from scipy import ndimage

from autoseg.geometry import Shape3, Spacing3
from autoseg.postprocessing.smoothing import known_spacing_mm, smoothed


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((11, 12, 13), (1.0, 1.0, 1.0)), ((11, 12, 13), (3.0, 1.0, 1.0))]
)
def test_means_are_over_the_mask_by_how_far_voxels_are_in_mm(
    shape: Shape3, spacing_mm: Spacing3
) -> None:
    rng = np.random.default_rng(0)
    mask, values = rng.uniform(size=shape) < 0.6, rng.normal(size=shape)
    found = smoothed(values, mask, spacing_mm, 1.0)
    place = np.argwhere(mask) * np.array(spacing_mm)
    for voxel in np.argwhere(mask):
        apart = place - voxel * np.array(spacing_mm)
        near = (np.abs(apart) <= 4).all(axis=1)  # scipy's kernels end at 4 deviations
        weights = np.exp(-(apart[near] ** 2).sum(1) / 2)
        inner = ((voxel >= 4) & (voxel < np.array(shape) - 4)).all()
        if inner:  # elsewhere scipy mirrors what lies beyond
            expected = (weights * values[mask][near]).sum() / weights.sum()
            assert found[tuple(voxel)] == pytest.approx(expected, abs=1e-3)
    assert not found[~mask].any()


def test_a_constant_stays_as_it_is() -> None:
    mask = ndimage.binary_dilation(np.eye(9, dtype=bool))[None]
    found = smoothed(np.full(mask.shape, 0.25), mask, (1, 1, 1), 2.0)
    np.testing.assert_allclose(found[mask], 0.25, rtol=1e-5)


def test_how_thick_a_single_slice_is_does_not_matter() -> None:
    assert known_spacing_mm((9.0, 2.0, 3.0), (1, 50, 50)) == (2, 2, 3)
    assert known_spacing_mm((9.0, 2.0, 3.0), (2, 50, 50)) == (9, 2, 3)
    assert known_spacing_mm((9.0, 2.0, 3.0), (1, 1, 1)) == (2, 2, 2)
