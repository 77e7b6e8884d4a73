from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from autoseg.dataset.labels import LabelScheme
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.metrics import (
    METRICS,
    ClassScore,
    EmptyRule,
    MaskPair,
    Mean,
    mean_score,
    score_classes,
)
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
    assert pair.predicted.shape == pair.reference.shape == (6, 8, 10)
    assert pair.annotated is not None and pair.annotated.shape == (6, 8, 10)
    assert not (pair.predicted | pair.reference)[~pair.annotated].any()
    assert evaluation.cases["a"]["1"].dice == 2.0


def test_what_nobody_annotated_counts_neither_for_dice_nor_for_volume(
    partly_annotated: tuple[Path, Path],
) -> None:
    score = evaluate_pairs({"a": partly_annotated}, LABELS, workers=1).cases["a"]["1"]
    assert score.dice == pytest.approx(2 * 16 / (24 + 16))
    assert (score.volume_ml, score.reference_volume_ml) == pytest.approx((0.048, 0.032))


def test_scores_are_those_of_the_metrics_and_means_of_those_with_a_better_end() -> None:
    assert list(ClassScore.model_fields) == list(METRICS)
    assert list(Mean.model_fields) == [name for name, m in METRICS.items() if m.better]
    assert all(name.endswith(m.unit) for name, m in METRICS.items())


@pytest.mark.parametrize(
    ("rule", "from_both", "from_one"),
    [(EmptyRule(None, 0.0), None, 0.0), (EmptyRule(1.0, None), 1.0, None), (None, 7.0, 7.0)],
)
def test_each_metric_says_what_empty_masks_get(
    rule: EmptyRule | None, from_both: float | None, from_one: float | None
) -> None:
    metric = replace(METRICS["dice"], function=lambda pair: 7.0, empty=rule)
    empty, full = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    for predicted, reference, expected in (
        (empty, empty, from_both),
        (full, empty, from_one),
        (empty, full, from_one),
        (full, full, 7.0),
    ):
        assert metric.score(MaskPair(predicted, reference, None, SPACING_MM)) == expected


def test_regions_of_several_values_are_one_mask() -> None:
    prediction = np.array([[[1, 2, 0, 3]]], np.uint8)
    reference = np.array([[[2, 2, 2, 0]]], np.uint8)
    scores = score_classes(prediction, reference, None, {"whole": (1, 2)}, SPACING_MM)
    assert scores["whole"].model_dump() == pytest.approx(
        {"dice": 0.8, "volume_ml": 0.003, "reference_volume_ml": 0.0045}
    )


def test_scores_that_are_missing_are_left_out_of_means() -> None:
    def score(dice: float | None) -> ClassScore:
        return ClassScore(dice=dice, volume_ml=1, reference_volume_ml=1)

    assert mean_score([score(0.5), score(None), score(1.0)]) == Mean(dice=0.75)
    assert mean_score([score(None)]) == Mean(dice=None)
