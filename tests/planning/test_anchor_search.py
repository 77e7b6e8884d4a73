"""Sizes of boxes that are found from those of objects."""

from time import process_time

import numpy as np
import pytest

from autoseg.planning.anchor_search import AnchorSearch, centred_iou, clustered, find_anchors

STRIDES = [(1, 1), (2, 2), (4, 4), (8, 8)]
PATCH = (64, 64)


def sizes_of(*groups: tuple[float, float], count: int = 40) -> np.ndarray:
    """So many objects about each of some sizes."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [np.array(group) * rng.uniform(0.95, 1.05, (count, 2)) for group in groups]
    )


def search(**changed: float) -> AnchorSearch:
    values = {"finest_stride": 2, "most": 3, "wanted_overlap": 0.8} | changed
    return AnchorSearch(**values)  # type: ignore[arg-type]


def test_overlap_about_one_middle_is_that_of_drawn_boxes() -> None:
    drawn = np.zeros((2, 20, 20), bool)
    drawn[0, 5:15, 8:12] = drawn[1, 7:13, 4:16] = True  # 10 x 4 and 6 x 12
    expected = (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()
    assert centred_iou(np.array([[10.0, 4]]), np.array([[6.0, 12]]))[0, 0] == pytest.approx(
        expected
    )


def test_clusters_are_the_groups_that_there_are() -> None:
    found = clustered(sizes_of((8, 8), (6, 20), (20, 6)), 3)
    assert sorted(found.round().astype(int).tolist()) == [[6, 20], [8, 8], [20, 6]]


def test_objects_are_looked_for_where_they_are_about_four_voxels_wide() -> None:
    found = find_anchors(sizes_of((8, 8), (30, 34)), STRIDES, PATCH, search())
    assert [level.stage for level in found.levels] == [1, 2, 3]
    assert [len(level.sizes_vox) for level in found.levels] == [1, 1, 1]  # one of each suffices
    assert np.round(found.levels[0].sizes_vox).tolist() == [[8, 8]]
    assert np.round(found.levels[2].sizes_vox).tolist() == [[30, 34]]
    assert found.overlap > 0.9


def test_there_are_as_many_sizes_as_objects_are_unlike() -> None:
    unlike = sizes_of((4, 16), (16, 4))
    found = find_anchors(unlike, STRIDES, PATCH, search())
    assert [len(level.sizes_vox) for level in found.levels] == [2]
    assert found.overlap > 0.9
    one = find_anchors(unlike, STRIDES, PATCH, search(most=1))
    assert [len(level.sizes_vox) for level in one.levels] == [1] and one.overlap < 0.8


def test_objects_are_no_larger_than_the_patch_and_no_finer_stage_is_used() -> None:
    found = find_anchors(sizes_of((2, 2), (200, 30)), STRIDES, (32, 64), search())
    assert found.levels[0].stage == 1
    assert max(size[0] for level in found.levels for size in level.sizes_vox) == 32


def test_slices_that_are_thick_have_thin_boxes() -> None:
    strides = [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]
    balls = np.full((50, 3), 12.0) / np.array([4.0, 1, 1])  # of 12 mm, slices of 4
    found = find_anchors(balls, strides, (16, 64, 64), search())
    assert [level.sizes_vox for level in found.levels] == [((3, 12, 12),)]


def test_they_are_found_in_less_than_a_second() -> None:
    many = np.random.default_rng(1).uniform(4, 60, (5000, 3))
    strides = [(2**i,) * 3 for i in range(5)]
    begun = process_time()
    find_anchors(many, strides, (64, 128, 128), search(wanted_overlap=1.0))
    assert process_time() - begun < 1
