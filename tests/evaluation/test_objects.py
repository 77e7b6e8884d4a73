"""Expected numbers were made by hand, or once by BraTS-2023-Metrics.

Covers: objects, lesions, joined_lesions, panoptic.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluation import lesions, panoptic
from autoseg.evaluation.mask_pair import MapPair, MaskPair
from autoseg.evaluation.metrics import METRICS, score_classes
from autoseg.evaluation.objects import find_overlaps, number_objects, occupied_box

Mask = NDArray[np.bool_]
UNIT_MM = (1.0, 1.0, 1.0)
BRATS_DICE, BRATS_HD95_MM = 0.15591753774680606, 281.03720259878855


def pair_of(predicted: Mask, reference: Mask) -> MaskPair:
    z, y, x = predicted.shape
    return MaskPair(predicted, reference, None, UNIT_MM, (z, y, x), predicted.size)


def boxes(*parts: tuple[slice, slice, slice]) -> Mask:
    mask = np.zeros((20, 20, 40), bool)
    for part in parts:
        mask[part] = True
    return mask


def cube(z: int, y: int, x: int, size: int = 5) -> tuple[slice, slice, slice]:
    return slice(z, z + size), slice(y, y + size), slice(x, x + size)


def test_overlaps_are_those_of_counting_voxel_by_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoseg.evaluation.objects.VOXELS_AT_ONCE", 100)  # several slabs
    first, second = np.random.default_rng(0).integers(0, 5, (2, 9, 8, 7), dtype=np.uint16)
    found = find_overlaps(first, second)
    table = np.zeros((5, 5), np.int64)
    np.add.at(table, (first.ravel(), second.ravel()), 1)
    assert len(found.vox) == 16
    assert found.vox.tolist() == table[1:, 1:][found.first, found.second].tolist()


def test_overlaps_are_found_wherever_the_second_map_has_objects() -> None:
    first, second = np.zeros((2, 6, 7, 8), np.uint32)
    first[:] = 3
    second[4, 5:, 2] = 70000
    found = find_overlaps(first, second)
    assert (found.first.tolist(), found.second.tolist(), found.vox.tolist()) == ([2], [69999], [2])
    assert occupied_box(second != 0) == (slice(4, 5), slice(5, 7), slice(2, 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxels_in_a_row_are_objects(axis: int) -> None:
    row = np.array([True, False, True, False, True, True]).reshape(-1, 1, 1)
    numbers = number_objects(np.moveaxis(row, 0, axis))
    assert numbers.ravel().tolist() == [1, 0, 2, 0, 3, 3]


def test_lesions_are_counted_as_by_a_loop_over_components() -> None:
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.standard_normal((2, 30, 30, 30)), (0, 2, 2, 2))
    reference, predicted = field[0] > 0.1, field[0] + field[1] / 2 > 0.1
    full = np.ones((3, 3, 3))
    (truths, count), (guesses, guessed) = (ndimage.label(m, full) for m in (reference, predicted))
    found = sum(predicted[truths == k].any() for k in range(1, count + 1))
    false = sum(not reference[guesses == k].any() for k in range(1, guessed + 1))
    pair = pair_of(predicted, reference)
    assert 0 < found < count and false
    assert lesions.false_positives(pair) == false
    assert lesions.lesion_sensitivity(pair) == pytest.approx(found / count)
    expected = 2 * found / (2 * found + false + count - found)
    assert lesions.lesion_f1(pair) == pytest.approx(expected)


def test_brats_joins_lesions_that_touch_once_dilated() -> None:
    # Two lesions 6 voxels apart are one; what is predicted 3 voxels beside it belongs to it.
    reference = boxes(cube(2, 2, 2), cube(2, 2, 13))
    predicted = boxes(cube(2, 2, 2), cube(2, 9, 13))
    pair = pair_of(predicted, reference)
    assert lesions.brats_dice(pair) == pytest.approx(2 * 125 / 500)
    # Another 8 apart is a lesion of its own, missed; a prediction out of reach is false.
    reference, predicted = reference | boxes(cube(2, 2, 26)), predicted | boxes(cube(14, 14, 34))
    pair = pair_of(predicted, reference)
    assert lesions.brats_dice(pair) == pytest.approx(0.5 / 3)
    assert lesions.brats_hd95_mm(pair) > 2 * 374 / 3


def test_brats_leaves_small_lesions_out_with_what_is_predicted_there() -> None:
    reference = boxes(cube(2, 2, 2), cube(12, 12, 30, size=3))  # 125 and 27 mm³
    predicted = boxes(cube(2, 2, 2), cube(12, 12, 31, size=3))
    assert lesions.brats_dice(pair_of(predicted, reference)) == 1
    assert lesions.brats_hd95_mm(pair_of(predicted, reference)) == 0
    coarse = replace(pair_of(predicted, reference), spacing_mm=(2.0, 1.0, 1.0))  # 54 mm³
    assert lesions.brats_dice(coarse) == pytest.approx((1 + 2 / 3) / 2)


def test_brats_scores_of_random_lesions_are_those_of_its_own_code() -> None:
    rng = np.random.default_rng(5)
    field = ndimage.gaussian_filter(rng.standard_normal((2, 24, 28, 32)), (0, 2, 2, 2))
    predicted, reference = field[0] + field[1] / 2 > 0.12, field[0] > 0.12
    pair = replace(pair_of(predicted, reference), spacing_mm=(2.0, 1.0, 0.5))
    assert lesions.brats_dice(pair) == pytest.approx(BRATS_DICE, rel=1e-12)
    assert lesions.brats_hd95_mm(pair) == pytest.approx(BRATS_HD95_MM, rel=1e-12)


def test_panoptic_quality_of_a_worked_example() -> None:
    # IoUs: 1, 12/20 and exactly one half, which is no match; one missed.
    reference = np.zeros((1, 10, 40), bool)
    predicted = reference.copy()
    reference[0, 0:4, 0:4] = predicted[0, 0:4, 0:4] = True
    reference[0, 0:4, 10:14] = predicted[0, 0:4, 11:15] = True
    reference[0, 0:4, 20:24] = predicted[0, 0:4, 20:22] = True
    reference[0, 0:4, 30:34] = True
    pair = pair_of(predicted, reference)
    assert panoptic.panoptic_quality(pair) == pytest.approx(1.6 / (2 + 1 / 2 + 2 / 2))
    assert panoptic.segmentation_quality(pair) == pytest.approx(0.8)
    assert panoptic.recognition_quality(pair) == pytest.approx(2 / 3.5)
    assert panoptic.jaccard_50(pair) == pytest.approx(3 / 4)  # at least one half
    assert panoptic.jaccard_75(pair) == pytest.approx(1 / (1 + 2 + 3))


def test_of_two_halves_of_an_object_only_one_matches() -> None:
    reference, predicted = np.ones((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    halves = np.zeros((1, 4, 4), np.uint8)
    halves[0, :2], halves[0, 2:] = 1, 2
    pair = replace(pair_of(predicted, reference), predicted_ids=halves)
    assert panoptic.jaccard_50(pair) == pytest.approx(1 / 2)


def test_objects_that_touch_are_counted_by_their_numbers() -> None:
    ids = np.zeros((1, 6, 9), np.uint16)
    ids[0, :, :3], ids[0, :, 3:6], ids[0, :, 6:] = 7, 900, 8
    filled = ids > 0
    assert lesions.lesion_f1(pair_of(filled, filled)) == 1
    pair = replace(pair_of(filled, filled), reference_ids=ids)
    assert panoptic.panoptic_quality(pair) == 0
    assert panoptic.panoptic_quality(replace(pair, predicted_ids=ids)) == 1


def test_objects_mostly_where_nobody_looked_are_not_false() -> None:
    prediction, reference = np.zeros((2, 4, 4, 20), np.uint8)
    annotated = np.ones(prediction.shape, bool)
    annotated[..., 10:] = False
    reference[:, :, 0:3] = prediction[:, :, 0:3] = 1
    prediction[:, :, 8:14] = 1  # 2 of 6 columns are annotated
    maps = MapPair(prediction, reference, annotated, UNIT_MM)
    scores = score_classes(maps, {"1": (1,)})["1"].scores
    assert (scores["false_positives"], scores["pq"], scores["ap50"]) == (0, 1, 1)
    prediction[:, :, 6:8] = 1  # 4 of 8: half of it is no excuse
    scores = score_classes(maps, {"1": (1,)})["1"].scores
    assert scores["false_positives"] == 1
    assert scores["pq"] == pytest.approx(1 / 1.5)


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        (0, 0, {"lesion_f1": None, "false_positives": 0, "brats_dice": 1, "brats_hd95_mm": 0}),
        (0, 0, {"pq": None, "map": None, "lesion_sensitivity": None, "jaccard_50": None}),
        (1, 0, {"lesion_f1": 0, "false_positives": 1, "brats_dice": 0, "brats_hd95_mm": 374}),
        (1, 0, {"pq": 0, "map": None, "lesion_sensitivity": None, "jaccard_50": 0}),
        (0, 1, {"lesion_f1": 0, "false_positives": 0, "brats_dice": 0, "brats_hd95_mm": 374}),
        (0, 1, {"pq": 0, "map": 0, "lesion_sensitivity": 0, "jaccard_50": 0}),
    ],
)
def test_empty_masks_have_the_scores_of_each_rule(
    predicted: int, reference: int, expected: dict[str, float | None]
) -> None:
    shape = (8, 8, 8)
    pair = pair_of(np.full(shape, predicted, bool), np.full(shape, reference, bool))
    assert {name: METRICS[name].score(pair) for name in expected} == expected
