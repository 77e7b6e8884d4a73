"""Steps on masks drawn by hand, beside scikit-image and SciPy.

Covers: recipe.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import remove_small_objects

from autoseg.postprocessing.recipe import Recipe
from autoseg.postprocessing.steps import (
    Absent,
    Confidence,
    Holes,
    LargestComponent,
    SmallComponents,
    Step,
    apply_steps,
    describe,
)
from autoseg.records import parse_record

SPACING_MM = (3.0, 0.5, 0.5)  # 0.75 mm³ a voxel
SURE = {"organ": Confidence(largest_probability=0.9, mean_probability=0.6)}


def corrected(labels: np.ndarray, *steps: Step) -> np.ndarray:
    return apply_steps(labels, SPACING_MM, steps, SURE)[0]


def noise(seed: int, shape: tuple[int, ...] = (6, 14, 15)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0, 0.8, 0.8, 0.8))
    smooth[0] += 0.05
    found: np.ndarray = smooth.argmax(0).astype(np.uint8)
    return found


@pytest.mark.parametrize("values", [(1,), (1, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_the_largest_components_stay(seed: int, values: tuple[int, ...]) -> None:
    labels = noise(seed)
    mask = np.isin(labels, values)
    components = label(mask, connectivity=3)
    sizes = np.bincount(components.ravel())[1:]
    largest = np.isin(components, 1 + np.flatnonzero(sizes == sizes.max()))
    expected = np.where(mask & ~largest, 0, labels)
    step = LargestComponent(of="organ", values=values)
    np.testing.assert_array_equal(corrected(labels, step), expected)


def test_components_of_equal_size_all_stay() -> None:
    labels = np.zeros((1, 3, 8), np.uint8)
    labels[0, 0, [0, 1, 3, 4, 6]] = 1
    kept = corrected(labels, LargestComponent(of="organ", values=(1,)))
    assert np.flatnonzero(kept).tolist() == [0, 1, 3, 4]


@given(seed=st.integers(0, 50), voxels=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_components_below_a_volume_go(seed: int, voxels: int) -> None:
    labels = noise(seed)
    keep = remove_small_objects(labels == 2, max_size=voxels - 1, connectivity=3)
    expected = np.where((labels == 2) & ~keep, 0, labels)
    step = SmallComponents(of="organ", values=(2,), min_volume_mm3=0.75 * voxels)
    np.testing.assert_array_equal(corrected(labels, step), expected)


@pytest.mark.parametrize("seed", range(5))
def test_background_that_is_enclosed_becomes_the_class(seed: int) -> None:
    labels = noise(seed)
    enclosed = ndimage.binary_fill_holes(labels == 1) & (labels == 0)
    expected = np.where(enclosed, 1, labels)
    step = Holes(of="organ", values=(1,), becomes=1)
    np.testing.assert_array_equal(corrected(labels, step), expected)


def test_a_single_slice_has_holes_of_its_own() -> None:
    ring = np.ones((1, 5, 5), np.uint8)
    ring[0, 2, 2] = 0
    ring[0, 1, 2] = 2  # another class is no hole
    step = Holes(of="organ", values=(1, 2), becomes=1)
    assert corrected(ring, step)[0, 1:3, 2].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("measure", "threshold", "left"),
    [
        ("largest_probability", 0.9, True),
        ("largest_probability", 0.91, False),
        ("mean_probability", 0.6, True),
        ("mean_probability", 0.61, False),
    ],
)
def test_a_class_that_is_improbable_is_dropped(measure: str, threshold: float, left: bool) -> None:
    labels = np.array([[[0, 1, 2, 1]]], np.uint8)
    step = Absent(of="organ", values=(1,), measure=measure, threshold=threshold)
    assert (1 in corrected(labels, step)) == left
    assert 2 in corrected(labels, step)


def test_a_class_of_unknown_probability_stays() -> None:
    labels = np.array([[[0, 1, 2, 1]]], np.uint8)
    step = Absent(of="other", values=(1,), measure="mean_probability", threshold=1)
    np.testing.assert_array_equal(corrected(labels, step), labels)


def test_what_leaves_a_region_may_become_the_region_around_it() -> None:
    labels = np.array([[[1, 3, 1, 3, 3, 0]]], np.uint8)
    step = LargestComponent(of="core", values=(3,), becomes=1)
    assert corrected(labels, step).ravel().tolist() == [1, 1, 1, 3, 3, 0]


def test_steps_follow_each_other_and_those_that_do_something_are_told() -> None:
    labels = np.zeros((1, 7, 7), np.uint8)
    labels[0, 1:6, 1:6] = 1
    labels[0, 2:5, 2:5] = 0
    labels[0, 3, 3] = 1  # within the ring; the hole is whole only once it is gone
    steps = (
        SmallComponents(of="a", values=(2,), min_volume_mm3=1),
        LargestComponent(of="a", values=(1,)),
        Holes(of="a", values=(1,), becomes=1),
    )
    result, done = apply_steps(labels, (1, 1, 1), steps, {})
    assert result.sum() == 25
    assert [describe(step) for step in done] == ["largest component of a kept", "holes of a filled"]
    assert labels[0, 2, 2] == 0


def test_an_empty_mask_is_left_alone() -> None:
    steps = (LargestComponent(of="a", values=(1,)), Holes(of="a", values=(1,), becomes=1))
    result, done = apply_steps(np.zeros((2, 3, 4), np.uint8), (1, 1, 1), steps, SURE)
    assert not result.any() and done == ()


def test_a_recipe_comes_back_from_a_file_as_it_was() -> None:
    steps = (
        LargestComponent(of="a", values=(1, 2)),
        Absent(of="b", values=(2,), measure="mean_probability", threshold=0.5),
    )
    recipe = Recipe(members=("p/2d",), steps=steps)
    assert parse_record(Recipe, recipe.model_dump(mode="json"), "here") == recipe


def test_values_may_have_gaps_and_be_as_large_as_their_type_holds() -> None:
    labels = np.zeros((1, 3, 6), np.uint32)
    labels[0, 0, :3] = labels[0, 2, 5] = 2**32 - 1
    labels[0, 2, 0] = 7
    kept = corrected(labels, LargestComponent(of="organ", values=(2**32 - 1, 7, 9)))
    assert np.flatnonzero(kept).tolist() == [0, 1, 2]
