"""Covers: mask_pair, metrics, overlap."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.mask_pair import MapPair, MaskPair
from autoseg.evaluation.metrics import ABSENT, METRICS, Empty, EmptyRule, mean_score, score_classes
from tests.evaluation.test_evaluate import save

SPACING_MM = (3.0, 1.0, 0.5)
IGNORE = 9
LABELS = LabelScheme(values=(0, 1), names=("background", "organ"), ignore=IGNORE)


def boundary_distance_mm(pair: MaskPair) -> float:
    """How far the prediction's farthest voxel is from the reference."""
    distances = ndimage.distance_transform_edt(~pair.reference, sampling=pair.spacing_mm)
    return float(distances[pair.predicted].max())


@pytest.fixture
def partly_annotated(tmp_path: Path) -> tuple[Path, Path]:
    """A prediction one thick slice (2 mm) beyond its reference, and far off where nobody looked."""
    mask, truth = np.zeros((10, 8, 6)), np.zeros((10, 8, 6))
    mask[2:5, 2:6, 2:4] = truth[2:4, 2:6, 2:4] = 1
    mask[8:] = 1
    truth[7:] = IGNORE
    save(tmp_path / "masks" / "a.nii.gz", mask)
    save(tmp_path / "truth" / "a.nii.gz", truth)
    return tmp_path / "masks" / "a.nii.gz", tmp_path / "truth" / "a.nii.gz"


def test_metrics_see_masks_in_space_where_a_part_is_not_annotated(
    partly_annotated: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[MaskPair] = []

    def distance_mm(pair: MaskPair) -> float:
        seen.append(pair)
        return boundary_distance_mm(pair)

    monkeypatch.setitem(METRICS, "dice", replace(METRICS["dice"], function=distance_mm))
    evaluation = evaluate_pairs({"a": partly_annotated}, LABELS, workers=1)
    (pair,) = seen
    # In the file's order [x, y, z] the shape was (10, 8, 6), with spacing 2, 1, 1 mm.
    assert pair.scan_shape_vox == (6, 8, 10) and pair.scored_vox == 6 * 8 * 7
    assert pair.predicted.shape == pair.reference.shape == (6, 8, 8)  # cut to where either is
    assert pair.annotated is not None and pair.annotated.shape == (6, 8, 8)
    assert not (pair.predicted | pair.reference)[~pair.annotated].any()
    assert evaluation.cases["a"]["1"]["dice"] == 2.0


def test_what_nobody_annotated_counts_neither_for_dice_nor_for_volume(
    partly_annotated: tuple[Path, Path],
) -> None:
    score = evaluate_pairs({"a": partly_annotated}, LABELS, workers=1).cases["a"]["1"]
    assert score["dice"] == pytest.approx(2 * 16 / (24 + 16))
    assert (score["volume_ml"], score["reference_volume_ml"]) == pytest.approx((0.048, 0.032))
    assert score["pixel_accuracy"] == pytest.approx(1 - 8 / (6 * 8 * 7))
    assert score["specificity"] == pytest.approx(1 - 8 / (6 * 8 * 7 - 16))


def test_overlaps_are_those_of_simpleitk() -> None:
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 3, (2, 6, 7, 8), dtype=np.uint8)
    prediction[:2] = 0
    scores = score_classes(MapPair(prediction, reference, None, SPACING_MM), {"1": (1,), "2": (2,)})
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*map(sitk.GetImageFromArray, (prediction, reference)))
    for value in (1, 2):
        score = scores[str(value)].scores
        assert score["dice"] == pytest.approx(overlap.GetDiceCoefficient(value))
        assert score["iou"] == pytest.approx(overlap.GetJaccardCoefficient(value))
        assert score["precision"] == pytest.approx(1 - overlap.GetFalseDiscoveryRate(value))
        assert score["sensitivity"] == pytest.approx(1 - overlap.GetFalseNegativeError(value))
        assert score["specificity"] == pytest.approx(1 - overlap.GetFalsePositiveError(value))
        agree = (prediction == value) == (reference == value)
        assert score["pixel_accuracy"] == pytest.approx(agree.mean())


def test_differences_of_volumes_have_a_sign() -> None:
    prediction, reference = np.zeros((2, 2, 10, 10), np.uint8)
    prediction[0, :4] = reference[0, :5] = 1
    score = score_classes(MapPair(prediction, reference, None, SPACING_MM), {"1": (1,)})["1"].scores
    assert score["volume_difference_ml"] == pytest.approx(-10 * 1.5 / 1000)
    assert score["volume_difference_percent"] == pytest.approx(-20)


def test_names_end_with_units() -> None:
    assert all(name.endswith(metric.unit) for name, metric in METRICS.items())


@pytest.mark.parametrize(
    ("rule", "both", "one", "one_penalised"),
    [
        (EmptyRule(Empty.UNDEFINED, 0.0, 0.0), None, 0.0, 0.0),
        (EmptyRule(1.0, Empty.UNDEFINED, Empty.DIAGONAL), 1.0, None, 86.0**0.5),
        (EmptyRule(Empty.MEASURED, Empty.MEASURED, Empty.UNDEFINED), 7.0, 7.0, 7.0),
    ],
)
def test_each_metric_says_what_empty_masks_get(
    rule: EmptyRule, both: float | None, one: float | None, one_penalised: float | None
) -> None:
    metric = replace(METRICS["dice"], function=lambda pair: 7.0, empty=rule)
    empty, full = np.zeros((2, 7, 2), np.uint8), np.ones((2, 7, 2), np.uint8)
    for prediction, reference, expected, penalised in (
        (empty, empty, both, both),
        (full, empty, one, one_penalised),
        (empty, full, one, one_penalised),
        (full, full, 7.0, 7.0),
    ):
        maps = MapPair(prediction, reference, None, SPACING_MM)
        (found,) = score_classes(maps, {"1": (1,)}, {"dice": metric}).values()
        assert (found.scores["dice"], found.penalised["dice"]) == (expected, penalised)


def test_regions_of_several_values_are_one_mask() -> None:
    prediction = np.array([[[1, 2, 0, 3]]], np.uint8)
    reference = np.array([[[2, 2, 2, 0]]], np.uint8)
    maps = MapPair(prediction, reference, None, SPACING_MM)
    score = score_classes(maps, {"whole": (1, 2)})["whole"].scores
    assert (score["dice"], score["volume_ml"], score["reference_volume_ml"]) == pytest.approx(
        (0.8, 0.003, 0.0045)
    )


def test_a_class_of_other_scans_has_the_scores_of_empty_masks() -> None:
    nothing = np.zeros((4, 5, 6), np.uint8)
    (score,) = score_classes(MapPair(nothing, nothing, None, SPACING_MM), {"1": (1,)}).values()
    assert score == ABSENT


def test_scores_that_are_missing_are_left_out_of_means() -> None:
    def score(dice: float | None) -> dict[str, float | None]:
        return {"dice": dice, "volume_ml": 1}

    assert mean_score([score(0.5), score(None), score(1.0)]) == {"dice": 0.75}
    assert mean_score([score(None)]) == {"dice": None}


def test_a_value_below_zero_is_scored_as_any_other() -> None:
    prediction, reference = np.zeros((2, 4, 4, 4), np.int16)
    prediction[1, 1, :] = reference[1, 1, 1:] = -1
    maps = MapPair(prediction, reference, None, (1.0, 1.0, 1.0))
    found = score_classes(maps, {"-1": (-1,)}, {"dice": METRICS["dice"]})
    assert found["-1"].sizes_vox == (4, 3)
    assert found["-1"].scores["dice"] == pytest.approx(6 / 7)


def test_values_are_scored_that_are_as_large_as_their_type_holds() -> None:
    """As of objects that have numbers of their own in all scans together."""
    labels = np.zeros((3, 8, 8), np.uint32)
    labels[0, 0, :2], labels[1, 2, 3:6] = 3, 2**32 - 1
    moved = np.roll(labels, 1, axis=2)
    classes = {"a": (3,), "b": (2**32 - 1,), "c": (5,)}
    dice = {"dice": METRICS["dice"]}
    scores = score_classes(MapPair(moved, labels, None, SPACING_MM), classes, dice)
    found = [one.scores["dice"] for one in scores.values()]
    assert found == [pytest.approx(0.5), pytest.approx(2 / 3), None]
