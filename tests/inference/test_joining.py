"""Objects on seams between patches: synthetic scans whose objects are known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from autoseg.geometry import Shape3
from autoseg.inference.joining import FoundInPatch, JoinedObjects, SeenObjects
from autoseg.inference.sliding_window import gaussian_weight, tile

Numbers = NDArray[np.int32]


def balls(shape: Shape3, centres: Sequence[tuple[float, ...]], radius: float) -> Numbers:
    """Balls, or in a single slice disks, numbered from 1; the nearest where two meet."""
    place = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    numbers = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    for number, centre in enumerate(centres, 1):
        distance = np.linalg.norm(place - np.array(centre), axis=-1)
        numbers[(distance < radius) & (distance < nearest)] = number
        nearest = np.minimum(nearest, distance)
    return numbers


def look_at(numbers: Numbers, kind: int = 1, sureness: float = 0.9) -> list[FoundInPatch]:
    """What a perfect network finds in a patch."""
    found = []
    for number in np.unique(numbers[numbers > 0]):
        where = np.nonzero(numbers == number)
        start, stop = (tuple(int(f(along)) for along in where) for f in (np.min, np.max))
        box = tuple(slice(a, b + 1) for a, b in zip(start, stop, strict=True))
        probability = np.where(numbers[box] == number, sureness, 0.1).astype(np.float32)
        found.append(FoundInPatch(kind, 0.95, (start[0], start[1], start[2]), probability))
    return found


def seen(patch: Shape3) -> SeenObjects:
    return SeenObjects(gaussian_weight(patch, 0.125).numpy(), kept_share=0.8)


def joined(numbers: Numbers, patch: Shape3) -> JoinedObjects:
    objects = seen(patch)
    starts = tile(numbers.shape, patch, 0.5).starts
    for z, y, x in product(*starts):
        part = numbers[z : z + patch[0], y : y + patch[1], x : x + patch[2]]
        objects.add((z, y, x), [look_at(part)])
    z, y, x = numbers.shape
    return objects.joined((z, y, x), (slice(0, z), slice(0, y), slice(0, x)))


def check_is(found: JoinedObjects, numbers: Numbers) -> None:
    """As many objects, each of them a whole one, to the voxel."""
    count = int(numbers.max())
    assert len(found.kinds) == len(found.scores) == int(found.numbers.max()) == count
    pairs = np.zeros((count + 1, count + 1), int)
    np.add.at(pairs, (found.numbers.ravel(), numbers.ravel()), 1)
    rows, columns = linear_sum_assignment(-pairs)
    assert pairs[rows, columns].sum() == numbers.size


@pytest.mark.parametrize(
    ("shape", "patch"), [((24, 24, 24), (12, 12, 12)), ((1, 48, 48), (1, 16, 16))]
)
def test_objects_on_every_seam_are_found_once_and_whole(shape: Shape3, patch: Shape3) -> None:
    edges = [
        range(n // 4, n, n // 4) if n > 1 else [0] for n in shape
    ]  # where patches begin and end
    centres = [tuple(map(float, centre)) for centre in product(*edges)]
    numbers = balls(shape, centres, 2.6 if shape[0] > 1 else 4.2)
    assert numbers.max() == len(centres)
    check_is(joined(numbers, patch), numbers)


def test_an_object_longer_than_any_patch_is_one() -> None:
    numbers = np.zeros((1, 16, 80), np.int32)
    numbers[0, 5:9, 2:78] = 1
    numbers[0, 11:14, 2:40] = 2
    check_is(joined(numbers, (1, 16, 16)), numbers)


def test_objects_that_touch_on_a_seam_stay_two() -> None:
    numbers = balls((1, 32, 32), [(0, 16, 12), (0, 16, 19)], 5.0)
    check_is(joined(numbers, (1, 16, 16)), numbers)


def test_looks_at_one_patch_are_joined_and_their_scores_averaged() -> None:
    numbers = balls((1, 16, 16), [(0, 8, 8)], 4.0)
    objects = seen((1, 16, 16))
    objects.add((0, 0, 0), [look_at(numbers), look_at(numbers, sureness=0.7)])
    found = objects.joined((1, 16, 16), (slice(0, 1), slice(0, 16), slice(0, 16)))
    check_is(found, numbers)
    assert found.scores[0] == pytest.approx(0.95 * 0.8)


def test_the_look_that_is_nearest_to_an_object_counts_most() -> None:
    numbers = balls((1, 20, 28), [(0, 10, 9)], 4)
    patch = (1, 20, 20)
    objects = seen(patch)
    for start, score in ((0, 0.9), (8, 0.5)):
        [found] = look_at(numbers[:, :, start : start + 20])
        objects.add((0, 0, start), [[replace(found, score=score)]])
    [score] = objects.joined((1, 20, 28), (slice(1), slice(20), slice(28))).scores
    near, far = (float(objects.weight[0, 10, x]) for x in (9, 1))
    expected = (0.9 * near + 0.5 * far) / (near + far) * 0.9  # all voxels are 0.9 probable
    assert score == pytest.approx(expected, rel=1e-5) and expected > 0.8


def test_what_only_a_minority_of_looks_finds_is_left_out() -> None:
    numbers = balls((1, 16, 16), [(0, 8, 8)], 4.0)
    objects = seen((1, 16, 16))
    objects.add((0, 0, 0), [look_at(numbers), [], []])
    found = objects.joined((1, 16, 16), (slice(0, 1), slice(0, 16), slice(0, 16)))
    assert found.kinds == () and not found.numbers.any()


def test_an_object_that_two_queries_of_a_look_find_counts_once() -> None:
    numbers = balls((1, 16, 16), [(0, 8, 8)], 4.0)
    objects = seen((1, 16, 16))
    objects.add((0, 0, 0), [look_at(numbers) + look_at(balls((1, 16, 16), [(0, 8, 9)], 4.0))])
    found = objects.joined((1, 16, 16), (slice(0, 1), slice(0, 16), slice(0, 16)))
    check_is(found, numbers)


def test_objects_of_two_classes_are_never_one() -> None:
    numbers = balls((1, 16, 16), [(0, 8, 8)], 4.0)
    objects = seen((1, 16, 16))
    objects.add((0, 0, 0), [look_at(numbers), look_at(numbers, kind=2)])
    assert len(objects._groups()) == 2


def test_a_patch_of_two_columns_counts_once() -> None:
    numbers = balls((1, 16, 16), [(0, 8, 8)], 4.0)
    objects = seen((1, 16, 16))
    for _ in range(2):
        objects.add((0, 0, 0), [look_at(numbers)])
    assert len(objects.placed) == 1


def test_padding_is_cut_off_with_the_objects_in_it() -> None:
    numbers = balls((1, 16, 16), [(0, 2, 8), (0, 10, 8)], 2.5)
    objects = seen((1, 16, 16))
    objects.add((0, 0, 0), [look_at(numbers)])
    found = objects.joined((1, 16, 16), (slice(0, 1), slice(6, 16), slice(0, 16)))
    check_is(found, (numbers[:, 6:] == 2).astype(np.int32))


def test_numbers_go_to_a_finer_grid_within_their_class() -> None:
    numbers = balls((1, 16, 16), [(0, 5, 5), (0, 11, 11)], 3.0)
    found = JoinedObjects(numbers, (1, 2), (0.9, 0.8))
    classes = np.repeat(np.repeat(numbers, 2, axis=1), 2, axis=2).astype(np.uint8)
    within = found.within(classes)
    np.testing.assert_array_equal(within, classes)  # of the first object class 1, and so on
    classes[classes == 2] = 1
    assert set(np.unique(found.within(classes))) == {0, 1}
