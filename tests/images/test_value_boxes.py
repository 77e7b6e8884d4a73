import tracemalloc

import numpy as np
import pytest

from autoseg.images.value_boxes import ValueBoxes


def box_of(mask: np.ndarray) -> tuple[slice, ...] | None:
    """By hand, from the places of all voxels."""
    places = np.argwhere(mask)
    if not len(places):
        return None
    return tuple(
        slice(int(a), int(b) + 1) for a, b in zip(places.min(0), places.max(0), strict=True)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.uint64])
def test_boxes_hold_values_with_gaps_and_up_to_the_largest_of_a_type(dtype: type) -> None:
    labels = np.random.default_rng(0).choice(5, (4, 9, 10), p=(0.9, 0.04, 0.03, 0.02, 0.01))
    values: np.ndarray = np.array([0, 1, 7, 101, np.iinfo(dtype).max], dtype)
    labels = values[labels]
    boxes = ValueBoxes.of(labels)
    for wanted in ((1,), (7,), (int(values[-1]),), (1, 101), (3,), (7, 3)):
        assert boxes.around(wanted) == box_of(np.isin(labels, wanted)), wanted


def test_the_background_and_what_is_below_it_are_everywhere() -> None:
    labels = np.array([[[-3, 0, 0], [0, 2, 0]]], np.int32)
    boxes = ValueBoxes.of(labels)
    whole = (slice(0, 1), slice(0, 2), slice(0, 3))
    assert boxes.around((0,)) == boxes.around((-3,)) == boxes.around((0, 2)) == whole
    assert ValueBoxes.of(np.minimum(labels, 0)).around((2,)) is None
    assert ValueBoxes.of(labels[:0]).around((2,)) is None


def test_memory_does_not_grow_with_the_largest_value() -> None:
    labels = np.zeros((4, 8, 8), np.uint32)
    labels[1, 2, 3] = 2**26
    tracemalloc.start()
    ValueBoxes.of(labels)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20
