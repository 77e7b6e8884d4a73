import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.geometry import Box, Grid, Placement, Shape3, plan_axes, resampled_shape, same_space


def affine_of(codes: str, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """An affine whose file axes x, y, z grow towards the given directions."""
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, flip) in enumerate(ornt):
        affine[int(world), axis] = flip * spacing_mm[axis]
    return affine


def test_spacing_is_that_of_array_axes_even_with_shear() -> None:
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    affine[0, 2] = 4.0  # the slice axis leans: its voxels are 5 mm apart
    assert Grid((10, 20, 30), affine).spacing_mm == (5.0, 1.0, 0.5)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "LAS", "IRP"])
def test_canonical_axes_match_nibabels_closest_canonical(codes: str) -> None:
    data = np.random.default_rng(0).normal(size=(3, 4, 5))
    image = nib.Nifti1Image(data, affine_of(codes, (1, 2, 3)))
    expected = np.asarray(nib.as_closest_canonical(image).dataobj).T
    grid = Grid((5, 4, 3), image.affine)
    flipped, order = plan_axes(grid.axis_codes, "canonical", (0, 1, 2))
    found = np.flip(data.T, flipped).transpose(order)
    np.testing.assert_array_equal(found, expected)


@given(
    flips=st.sets(st.integers(0, 2)),
    order=st.permutations([0, 1, 2]),
)
def test_placement_returns_every_voxel_to_where_it_was(flips: set[int], order: list[int]) -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    placement = Placement(
        source_shape_vox=(3, 4, 5),
        flipped_axes=tuple(flips),
        axis_order=(order[0], order[1], order[2]),
        crop=Box(start=(0, 0, 0), stop=(1, 1, 1)),
        resampled_shape_vox=(1, 1, 1),
        source_spacing_mm=(1, 1, 1),
        target_spacing_mm=(1, 1, 1),
    )
    np.testing.assert_array_equal(placement.to_source_axes(placement.to_plan_axes(array)), array)


@pytest.mark.parametrize(
    ("shape", "expected"), [((10, 10, 10), (20, 5, 10)), ((1, 1, 1), (2, 1, 1))]
)
def test_resampled_shape_keeps_the_field_of_view(shape: Shape3, expected: Shape3) -> None:
    assert resampled_shape(shape, (2, 0.5, 1), (1, 1, 1)) == expected


def test_grids_that_drift_apart_at_the_far_corner_are_different() -> None:
    near, far = np.eye(4), np.eye(4)
    far[0, 0] = 1.002  # 0.2 mm apart after 100 voxels
    assert same_space(Grid((5, 5, 5), near), Grid((5, 5, 5), far))
    assert not same_space(Grid((5, 5, 101), near), Grid((5, 5, 101), far))


def test_tiny_voxels_must_agree_more_closely() -> None:
    affine = np.diag([0.005, 0.005, 0.005, 1.0])
    moved = affine.copy()
    moved[0, 3] = 0.09
    assert not same_space(Grid((5, 6, 7), affine), Grid((5, 6, 7), moved))
