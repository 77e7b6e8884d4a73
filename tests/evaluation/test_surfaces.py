"""Covers: surfaces."""

from itertools import permutations, product
from math import hypot, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from autoseg.evaluation.surfaces import (
    Distances,
    Mask,
    boundary_voxels,
    element_areas,
    nearest_distances,
    surface_of,
)

SPACING_MM = (3.0, 1.0, 0.5)
SIZES = st.tuples(*[st.integers(2, 6)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 5)] * 3)


def box(size: tuple[int, ...], shape: tuple[int, ...], start: int = 1) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + length) for length in size)] = True
    return mask


def box_area(size_vox: tuple[int, ...], spacing_mm: tuple[float, ...]) -> float:
    """Of a box between voxels' centres, half a voxel larger, with bevelled edges and corners."""
    (n, m, k), (sz, sy, sx) = [length - 1 for length in size_vox], spacing_mm
    faces = 2 * (n * m * sz * sy + n * k * sz * sx + m * k * sy * sx)
    edges = 2 * (n * sz * hypot(sy, sx) + m * sy * hypot(sz, sx) + k * sx * hypot(sz, sy))
    return faces + edges + sqrt((sy * sx) ** 2 + (sz * sx) ** 2 + (sz * sy) ** 2)


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, SPACINGS)
def test_the_area_of_two_boxes_is_that_of_their_faces_edges_and_corners(
    one: tuple[int, int, int], other: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> None:
    both = box(one, (16, 16, 16)) | box(other, (16, 16, 16), start=9)
    areas = surface_of(both, spacing_mm, "area").areas_mm2
    assert areas is not None
    expected = box_area(one, spacing_mm) + box_area(other, spacing_mm)
    assert areas.sum() == pytest.approx(expected, rel=1e-9)


def test_the_area_of_a_ball_is_that_of_a_sphere_with_steps() -> None:
    z, y, x = np.ogrid[-20:21, -30:31, -60:61]
    ball = (z * 1.5) ** 2 + y**2 + (x * 0.5) ** 2 <= 28**2
    areas = surface_of(ball, (1.5, 1.0, 0.5), "area").areas_mm2
    assert areas is not None
    # Bevelled steps are longer than a slope; those of whole faces would be half as long again.
    assert 1.0 < areas.sum() / (4 * pi * 28**2) < 1.2


def test_areas_do_not_depend_on_how_a_corner_is_turned_or_which_side_is_inside() -> None:
    areas = element_areas((1.0, 1.0, 1.0))
    bits = np.arange(8).reshape(2, 2, 2)
    for code in range(256):
        inside = (code >> bits & 1).astype(bool)
        assert areas[255 - code] == pytest.approx(areas[code], abs=1e-12)
        for axes, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
            turned = inside.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
            other = int((turned.astype(int) << bits).sum())
            if code.bit_count() != 4:
                assert areas[other] == pytest.approx(areas[code], abs=1e-12)


def test_areas_of_plain_corners_are_those_worked_out_by_hand() -> None:
    areas = element_areas(SPACING_MM)
    assert areas[0] == areas[255] == 0
    assert areas[0b00001111] == pytest.approx(1.0 * 0.5)  # a layer in z, so the area is y by x
    assert areas[0b00110011] == pytest.approx(3.0 * 0.5)
    assert areas[0b01010101] == pytest.approx(3.0 * 1.0)
    assert areas[0b00000011] == pytest.approx(0.5 * sqrt(3**2 + 1) / 2)  # a column along x
    corner = sqrt(0.5**2 + 1.5**2 + 3.0**2) / 8
    assert areas[0b00000001] == areas[0b10000000] == pytest.approx(corner)
    assert areas[0b10000001] == pytest.approx(2 * corner)


def test_lengths_of_a_slice_are_those_worked_out_by_hand() -> None:
    lengths = element_areas((3.0, 4.0))
    assert lengths[0b0011] == lengths[0b1100] == 4.0  # two voxels along x
    assert lengths[0b0101] == lengths[0b1010] == 3.0
    assert [lengths[code] for code in (1, 2, 4, 8, 7, 11, 13, 14)] == [2.5] * 8
    assert lengths[0b0110] == lengths[0b1001] == 5.0
    assert lengths[0] == lengths[15] == 0


def test_a_contour_of_a_rectangle_is_as_long_as_its_sides() -> None:
    lengths = surface_of(box((4, 6), (9, 9)), (3.0, 4.0), "area").areas_mm2
    assert lengths is not None and lengths.sum() == pytest.approx(2 * (3 * 3 + 5 * 4) + 4 * 2.5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 7), (12, 9), (1, 9, 9)])
def test_boundary_voxels_are_those_that_scipys_erosion_removes(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.9  # much of it touches the scan's border
    assert (boundary_voxels(mask) == (mask & ~ndimage.binary_erosion(mask))).all()


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(11, 13, 17), (40, 50)])
def test_distances_are_those_of_the_nearest_voxel(shape: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(1)
    here, there = rng.random(shape) < 0.1, rng.random(shape) < share
    there.flat[7] = True
    spacing_mm = SPACING_MM[-len(shape) :]
    expected = cdist(np.argwhere(here) * spacing_mm, np.argwhere(there) * spacing_mm).min(axis=1)
    assert nearest_distances(here, there, spacing_mm) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spots", [1, 40])
def test_a_surface_is_not_apart_from_itself(spots: int) -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask.flat[:spots] = True
    assert nearest_distances(mask, mask, SPACING_MM).tolist() == [0.0] * spots


def test_percentiles_by_area_are_reached_with_that_share_of_the_area() -> None:
    distances = Distances(np.array([3.0, 1.0, 2.0]), np.array([5.0, 80.0, 15.0]))
    assert [distances.percentile_mm(p) for p in (50, 80.1, 94, 96, 100)] == [1, 2, 2, 3, 3]
    assert distances.amount_within(2.0) == 95 and distances.amount == 100
    assert distances.total_mm == 15 + 80 + 30


def test_percentiles_by_voxel_are_interpolated() -> None:
    distances = Distances(np.array([0.0, 10.0, 20.0]), None)
    assert distances.percentile_mm(95) == pytest.approx(19)
    assert (distances.amount, distances.total_mm, distances.amount_within(10)) == (3, 30, 2)
