import numpy as np
import pytest

from autoseg.planning.size_ranges import (
    ENDLESS_MM,
    NO_SIZES,
    Sizes,
    octaves,
    open_ranges,
    solo_ranges,
)


def test_neighbouring_ranges_share_an_octave_and_hold_all_sizes() -> None:
    ranges = solo_ranges(Sizes(10, 100), (1.0, 1.0))
    assert ranges == ((10, 40), (20, 80), (40, 160))
    first, *_, last = open_ranges(Sizes(10, 100), (1.0, 1.0))
    assert first == (0, 40) and last == (40, ENDLESS_MM)


def test_objects_of_one_size_are_looked_for_together() -> None:
    assert solo_ranges(Sizes(10, 12), (1.0, 1.0)) == ((10, 40),)
    assert open_ranges(Sizes(10, 12), (1.0, 1.0)) == ((0, ENDLESS_MM),)


@pytest.mark.parametrize("largest", [10, 15, 40, 150, 320])
def test_every_size_is_within_half_an_octave_of_a_box(largest: float) -> None:
    edges = octaves(Sizes(10, largest), (1.0, 1.0))
    for size in (10, largest):
        assert min(max(size / edge, edge / size) for edge in edges) <= 2**0.5 + 1e-9


def test_where_no_objects_are_known_sizes_are_of_voxels() -> None:
    assert solo_ranges(NO_SIZES, (3.0, 1.0, 1.0)) == ((24, 96),)


def test_objects_are_as_wide_as_a_cube_as_large_as_the_box_around_them() -> None:
    boxes_vox = np.array([[2.0, 4, 8]] * 90 + [[1.0, 2, 4]] * 10)
    found = Sizes.of(boxes_vox, (4.0, 2.0, 1.0))
    assert (found.smallest_mm, found.largest_mm) == pytest.approx((4, 8))
    assert Sizes.of(np.zeros((0, 3)), (1.0, 1.0, 1.0)) == NO_SIZES
