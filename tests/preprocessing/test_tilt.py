"""Slices under a tilted gantry are set upright, and masks come back on them."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from autoseg.geometry import Grid
from autoseg.preprocessing.tilt import Tilt, tilt_of

SHAPE = (7, 20, 18)  # z, y, x


def sheared(axis: int, along: int, shift_vox: float) -> Grid:
    """A grid whose slices along an array axis are shifted along another."""
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[:3, 2 - axis] += shift_vox * affine[:3, 2 - along]
    affine[:3, 3] = [5, -6, 7]
    return Grid(SHAPE, affine)


def tilt(axis: int, along: int, shift_vox: float) -> Tilt:
    found = tilt_of(sheared(axis, along, shift_vox))
    assert found is not None
    return found


def test_right_angles_and_rounding_are_no_tilt() -> None:
    assert tilt_of(Grid(SHAPE, np.diag([0.7, 0.8, 2.5, 1.0]))) is None
    assert tilt_of(sheared(0, 1, 1e-3)) is None


@pytest.mark.parametrize("shift_vox", [0.9, -1.3])
@pytest.mark.parametrize("along", [1, 2])
def test_upright_images_are_those_of_scipy(along: int, shift_vox: float) -> None:
    found = tilt(0, along, shift_vox)
    edges = found.upright.affine_ras_mm[:3, :3]
    np.testing.assert_allclose(edges.T @ edges, np.diag(np.diag(edges.T @ edges)), atol=1e-9)
    image = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32)
    upright = found.set_upright(image)[0]
    # From upright file indices to those of the scan, with array axes the other way round.
    to_own = np.linalg.inv(found.own.affine_ras_mm) @ found.upright.affine_ras_mm
    matrix, offset = to_own[2::-1, 2::-1], to_own[2::-1, 3]
    expected = affine_transform(
        image[0], matrix, offset, found.upright.shape_vox, order=1, cval=np.nan
    )
    inside = ~np.isnan(expected)
    np.testing.assert_allclose(upright[inside], expected[inside], atol=1e-5)
    assert inside.mean() > 0.5


@pytest.mark.parametrize(("axis", "along"), [(0, 1), (0, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("shift_vox", [0.9, -1.3, 0.5])
def test_labels_come_back_as_they_were(axis: int, along: int, shift_vox: float) -> None:
    found = tilt(axis, along, shift_vox if axis == 0 else shift_vox / 4)
    labels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    back = found.back(found.labels_upright(labels))
    np.testing.assert_array_equal(back, labels)


def test_values_of_several_outputs_come_back_alike() -> None:
    found = tilt(0, 1, 0.9)
    values = np.random.default_rng(0).random((2, *found.upright.shape_vox))
    back = found.back(values)
    assert back.shape == (2, *SHAPE)
    np.testing.assert_array_equal(back[1], found.back(values[1]))
