"""Numbers of COCO were made once by pycocotools 2.0.11, those of calibration by hand.

Covers: detection, calibration.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluation.calibration import (
    BINS,
    Reliability,
    brier_score,
    expected_calibration_error,
    pool_reliability,
)
from autoseg.evaluation.detection import (
    Detections,
    average_precision,
    average_precision_50,
    detections_of,
    froc,
    mean_average_precision,
)
from autoseg.evaluation.mask_pair import MaskPair
from autoseg.evaluation.statistics import Floats
from tests.evaluation.test_objects import pair_of

COCO_MAP, COCO_AP50 = 0.09488149986344173, 0.33791849581320105
COCO_MAP_OF_FIRST = 0.11415841584158415


def scan(detections: list[tuple[float, float]], references: int, ranked: bool = True) -> Detections:
    """Detections of a confidence, each with the IoU of its match, which is then touched."""
    confidences, ious = np.array(detections, float).reshape(-1, 2).T
    matched = ious > 0
    found_at = np.full(references, -1.0)
    found_at[: matched.sum()] = confidences[matched]
    every = np.ones(len(ious), bool)
    sizes = np.ones(len(ious), np.int64)
    return Detections(confidences, sizes, ious, ious, matched, every, found_at, ranked)


def random_pair(seed: int) -> MaskPair:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((2, 1, 90, 100)), (0, 0, 3, 3))
    there = field[0] + field[1] / 2
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-30 * (there - 0.08)))
    return replace(pair_of(there > 0.08, field[0] > 0.08), probability=probability)


def once(scans: Sequence[Detections]) -> Floats:
    """Every scan counts once."""
    return np.ones((1, len(scans)))


def test_average_precision_is_that_of_pycocotools() -> None:
    scans = [detections_of(random_pair(seed)) for seed in range(4)]
    assert mean_average_precision(scans, once(scans))[0] == pytest.approx(COCO_MAP, abs=1e-12)
    assert average_precision_50(scans, once(scans))[0] == pytest.approx(COCO_AP50, abs=1e-12)
    assert mean_average_precision(scans[:1], once(scans[:1]))[0] == pytest.approx(
        COCO_MAP_OF_FIRST, abs=1e-12
    )


def test_average_precision_pools_scans_by_confidence() -> None:
    # By confidence: right, wrong, right; precision 1 up to recall 1/2, then 2/3.
    scans = [scan([(0.9, 0.8), (0.5, 0.6)], 2), scan([(0.7, 0.0)], 0)]
    assert average_precision(scans, once(scans), 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(scans, once(scans), 0.7) == pytest.approx(51 / 101)
    assert np.isnan(average_precision(scans[1:], once(scans[1:]), 0.5))


def test_without_confidences_the_order_of_scans_does_not_matter() -> None:
    scans = [scan([(1, 0.9)], 1, ranked=False), scan([(1, 0.0)], 0, ranked=False)]
    for ordered in (scans, scans[::-1]):
        assert average_precision(ordered, once(ordered), 0.5) == 0.5
    assert froc(scans) is None


def test_only_the_hundred_most_confident_detections_of_a_scan_count() -> None:
    detections = [(1 - i / 1000, 0.0) for i in range(100)] + [(0.5, 1.0)]
    for kept, expected in ((detections, 0), (detections[1:], 1 / 100)):
        scans = [scan(kept, 1)]
        assert average_precision(scans, once(scans), 0.5) == pytest.approx(expected)


def test_scans_that_count_several_times_count_as_if_they_were_there_so_often() -> None:
    scans = [detections_of(random_pair(seed)) for seed in range(4)]
    times = np.array([[2.0, 0, 3, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    found = mean_average_precision(scans, times)
    for row, expected in zip(times[:2], found, strict=False):
        repeated = [one for one, count in zip(scans, row, strict=True) for _ in range(int(count))]
        assert mean_average_precision(repeated, once(repeated))[0] == pytest.approx(expected)
    assert np.isnan(found[2])


def test_froc_of_a_worked_example() -> None:
    # Two scans, four lesions. By confidence: found, false, found, false, false; one is missed.
    scans = [
        scan([(0.9, 0.6), (0.8, 0.0), (0.5, 0.0)], 2),
        scan([(0.7, 0.6), (0.6, 0.0)], 2),
    ]
    curve = froc(scans)
    assert curve is not None
    # False positives a scan at which 1/4 and 2/4 are found: 0 and 1/2; 3/2 are all there are.
    assert curve.sensitivities == (0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert curve.mean == pytest.approx(3 / 7)


def test_confidences_are_mean_probabilities_inside_objects() -> None:
    mask = np.zeros((1, 3, 9), bool)
    mask[0, 0, :2] = mask[0, 2, 5:] = True
    probability = np.linspace(0, 1, 27, dtype=np.float16).reshape(1, 3, 9)
    objects = replace(pair_of(mask, mask), probability=probability).objects
    expected = [probability[0, 0, :2].mean(), probability[0, 2, 5:].mean()]
    assert objects.confidences == pytest.approx(expected, abs=1e-3)


def test_calibration_of_a_worked_example() -> None:
    reference = np.array([[[False, True, True, False]]])
    probability = np.array([[[0.1, 0.1, 0.9, 0.9]]], np.float16)
    pair = replace(pair_of(~reference, reference), probability=probability)
    # Two bins of two voxels, of which half are there: 0.4 from either.
    assert expected_calibration_error(pair) == pytest.approx(0.4, abs=1e-3)
    assert brier_score(pair) == pytest.approx((2 * 0.1**2 + 2 * 0.9**2) / 4, abs=1e-3)
    inside = np.array([[[False, True, True, False]]])
    annotated = replace(pair, annotated=inside)
    assert brier_score(annotated) == pytest.approx((0.9**2 + 0.1**2) / 2, abs=1e-3)
    assert expected_calibration_error(replace(pair, probability=None)) is None


def test_pooled_bins_have_the_calibration_error_of_all_voxels_together() -> None:
    rng = np.random.default_rng(0)
    cases = [(p := rng.random((4, 5, 6)), rng.random((4, 5, 6)) < p**2) for _ in range(2)]
    each = []
    for p, there in cases:
        bins = (p * BINS).astype(int).ravel()
        weights = (np.ones(p.size), p.ravel(), there.ravel())
        counts = np.array([np.bincount(bins, w, BINS) for w in weights])
        each.append([Reliability.of("a", counts)])
    (pooled,) = pool_reliability(each)
    p, there = (np.concatenate(parts) for parts in zip(*cases, strict=True))
    pair = MaskPair(
        predicted=p > 0.5, reference=there, annotated=None, spacing_mm=(1, 1, 1),
        scan_shape_vox=p.shape, scored_vox=p.size, probability=p,
    )  # fmt: skip
    assert pooled.calibration_error == pytest.approx(expected_calibration_error(pair), abs=1e-4)
    assert Reliability.of("a", np.zeros((3, BINS))).calibration_error is None
