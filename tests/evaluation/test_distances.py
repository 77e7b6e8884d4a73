"""Covers: distances, boundaries, centreline."""

from dataclasses import replace
from itertools import product
from math import hypot, sqrt

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from autoseg.evaluation.boundaries import boundary_f1, boundary_iou
from autoseg.evaluation.centreline import cldice
from autoseg.evaluation.distances import asd_mm, hd95_mm, hd_mm, nsd
from autoseg.evaluation.mask_pair import Convention, MapPair, MaskPair
from autoseg.evaluation.metrics import METRICS, score_classes
from autoseg.evaluation.surfaces import Mask, SurfaceKind

SPACING_MM = (3.0, 1.0, 0.5)
NAMES = ("hd_mm", "hd95_mm", "asd_mm", "nsd", "boundary_f1", "boundary_iou", "cldice")
KINDS: tuple[SurfaceKind, ...] = ("voxel", "area")


def pair_of(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], kind: SurfaceKind = "voxel"
) -> MaskPair:
    maps = MapPair(prediction, reference, None, SPACING_MM, Convention(surfaces=kind))
    ((_, pair),) = maps.masks({"organ": (1,)})
    return pair


def blobs(
    shape: tuple[int, int, int], seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A blob that reaches the scan's border, and the same shifted and with noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), 2)
    reference = smooth > np.median(smooth)
    prediction = np.roll(reference, 1, axis=(1, 2)) ^ (rng.random(shape) < 0.01)
    return prediction.astype(np.uint8), reference.astype(np.uint8)


def itk_distances_mm(of: NDArray[np.uint8], to: NDArray[np.uint8]) -> NDArray[np.float64]:
    """From contour to contour as SimpleITK finds them, on a scan with a rim of background."""
    contours = []
    for mask in (of, to):
        image = sitk.GetImageFromArray(
            np.pad(mask, [(0, 0) if s == 1 else (1, 1) for s in of.shape])
        )
        image.SetSpacing(SPACING_MM[::-1])
        contours.append(sitk.LabelContour(image, fullyConnected=False))
    far = sitk.SignedMaurerDistanceMap(contours[1], squaredDistance=False, useImageSpacing=True)
    distances = np.abs(sitk.GetArrayFromImage(far))[sitk.GetArrayFromImage(contours[0]) > 0]
    return np.asarray(distances, np.float64)


def test_distances_by_voxel_are_those_of_simpleitk() -> None:
    prediction, reference = blobs((12, 20, 24))
    there, back = itk_distances_mm(prediction, reference), itk_distances_mm(reference, prediction)
    both = np.concatenate([there, back])
    pair = pair_of(prediction, reference)
    assert hd_mm(pair) == pytest.approx(both.max(), rel=1e-6)
    assert hd95_mm(pair) == pytest.approx(max(np.percentile(d, 95) for d in (there, back)), 1e-6)
    assert asd_mm(pair) == pytest.approx(both.mean(), rel=1e-6)
    tight = replace(pair, tolerance_mm=0.75)
    assert nsd(tight) == pytest.approx((both <= 0.75).mean(), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axis", "step_mm"), [(0, 3.0), (1, 1.0), (2, 0.5)])
def test_shifted_cubes_are_as_far_apart_as_the_shift(
    kind: SurfaceKind, axis: int, step_mm: float
) -> None:
    reference = np.zeros((20, 20, 20), np.uint8)
    reference[5:11, 5:11, 5:11] = 1
    prediction = np.roll(reference, 2, axis)
    pair = pair_of(prediction, reference, kind)
    assert hd_mm(pair) == hd95_mm(pair) == pytest.approx(2 * step_mm)
    assert nsd(replace(pair, tolerance_mm=2 * step_mm)) == 1.0
    assert 0 < nsd(replace(pair, tolerance_mm=1.99 * step_mm)) < 1


def test_a_voxel_in_a_cube_has_distances_worked_out_by_hand() -> None:
    reference = np.zeros((7, 7, 7), np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    prediction = np.zeros_like(reference)
    prediction[3, 3, 3] = 1
    pair = MaskPair(prediction > 0, reference > 0, None, (1, 1, 1), (7, 7, 7), 343, 1.0)
    # 26 voxels around one: 6 at 1, 12 at the root of 2, 8 at that of 3; it is itself 1 away.
    assert hd_mm(pair) == pytest.approx(sqrt(3))
    assert asd_mm(pair) == pytest.approx((1 + 6 + 12 * sqrt(2) + 8 * sqrt(3)) / 27)
    assert nsd(pair) == pytest.approx((1 + 6) / 27)


def test_elements_with_an_area_count_by_it() -> None:
    reference = np.zeros((9, 9, 9), np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    prediction = reference.copy()
    prediction[6, 2:6, 2:6] = 1  # one more layer of 3 mm
    pair = replace(pair_of(prediction, reference, "area"), tolerance_mm=2.9)
    # 5 x 5 corners of the new layer are 3 mm away: 9 flat ones, edges along x and y, 4 corners.
    layer_mm2 = 9 * 0.5 + 6 * 0.5 * hypot(3, 1) / 2 + 6 * 1.0 * hypot(3, 0.5) / 2
    layer_mm2 += 4 * sqrt(0.5**2 + 1.5**2 + 3.0**2) / 8
    there, back = pair.surface_distances
    assert there.areas_mm2 is not None
    assert there.areas_mm2[there.mm == 3.0].sum() == pytest.approx(layer_mm2)
    assert there.total_mm == pytest.approx(3 * layer_mm2)
    assert nsd(pair) == pytest.approx(1 - layer_mm2 / (there.amount + back.amount))
    assert hd_mm(pair) == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_slice_has_contours_in_its_plane(kind: SurfaceKind) -> None:
    reference = np.zeros((1, 20, 20), np.uint8)
    reference[0, 5:15, 5:15] = 1
    prediction = np.zeros_like(reference)
    prediction[0, 8:12, 8:12] = 1
    pair = pair_of(prediction, reference, kind)
    # From each corner of the square to that of the smaller one: 3 steps of 1 mm and of 0.5 mm.
    assert hd_mm(pair) == pytest.approx(3 * sqrt(1 + 0.25))
    there, back = pair.surface_distances
    assert (len(there.mm), len(back.mm)) == ((12, 36) if kind == "voxel" else (16, 40))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_slice_has_the_same_scores_whichever_way_it_lies(
    axis: int, kind: SurfaceKind
) -> None:
    prediction, reference = blobs((1, 30, 40))

    def scores(masks: list[NDArray[np.uint8]], spacing_mm: NDArray[np.float64]) -> list[float]:
        maps = MapPair(masks[0], masks[1], None, tuple(spacing_mm), Convention(surfaces=kind))
        found = score_classes(maps, {"organ": (1,)})["organ"].scores
        return [value for value in found.values() if value is not None]

    across = [np.moveaxis(mask, 0, axis) for mask in (prediction, reference)]
    spacing_mm = np.insert(SPACING_MM[1:], axis, SPACING_MM[0])
    expected = scores([prediction, reference], np.array(SPACING_MM))
    assert scores(across, spacing_mm) == pytest.approx(expected)


def test_masks_that_fill_a_scan_have_its_border_as_surface() -> None:
    full = np.ones((4, 5, 6), np.uint8)
    less = full.copy()
    less[0] = 0
    for kind in KINDS:
        pair = pair_of(less, full, kind)
        assert hd_mm(pair) == 3.0
    there, back = pair_of(less, full).surface_distances
    assert (len(there.mm), len(back.mm)) == (60 + 30 - 12, 4 * 5 * 6 - 2 * 3 * 4)


def test_what_is_not_annotated_is_as_what_is_outside_the_scan() -> None:
    prediction, reference = blobs((10, 12, 14))
    annotated = np.ones(reference.shape, bool)
    annotated[:, :4] = False
    masked = MapPair(prediction, reference, annotated, SPACING_MM)
    cut = MapPair(prediction[:, 4:], reference[:, 4:], None, SPACING_MM)
    scores = [score_classes(maps, {"1": (1,)})["1"].scores for maps in (masked, cut)]
    for name in ("hd_mm", "hd95_mm", "asd_mm", "nsd", "cldice"):
        assert scores[0][name] == scores[1][name] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_of_empty_masks_distances_are_undefined_and_agreement_is_0(kind: SurfaceKind) -> None:
    empty, full = np.zeros((2, 7, 2), np.uint8), np.ones((2, 7, 2), np.uint8)
    maps = MapPair(full, empty, None, SPACING_MM, Convention(surfaces=kind))
    one = score_classes(maps, {"1": (1,)})["1"]
    neither = score_classes(replace(maps, prediction=empty), {"1": (1,)})["1"]
    for name in NAMES:
        distance = name.endswith("mm")
        assert one.scores[name] == (None if distance else 0)
        assert one.penalised[name] == (pytest.approx(sqrt(6**2 + 7**2 + 1)) if distance else 0)
        assert neither.scores[name] is neither.penalised[name] is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([(1, 9, 11), (5, 6, 7)]), st.sampled_from(KINDS))
def test_prediction_and_reference_may_change_places(
    seed: int, shape: tuple[int, int, int], kind: SurfaceKind
) -> None:
    rng = np.random.default_rng(seed)
    masks = (rng.random((2, *shape)) < rng.random()).astype(np.uint8)
    masks[:, 0, 0, 0] = 1
    one, other = pair_of(masks[0], masks[1], kind), pair_of(masks[1], masks[0], kind)
    for name in NAMES:
        assert METRICS[name].score(one) == pytest.approx(METRICS[name].score(other), rel=1e-12)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_a_mask_agrees_with_itself(seed: int, kind: SurfaceKind) -> None:
    mask = (np.random.default_rng(seed).random((4, 5, 6)) < 0.5).astype(np.uint8)
    mask[0, 0, 0] = 1
    pair = pair_of(mask, mask, kind)
    assert [METRICS[name].score(pair) for name in NAMES] == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("shape", [(1, 300, 400), (60, 70, 80)])
def test_boundary_iou_erodes_as_often_as_the_diagonal_says(shape: tuple[int, int, int]) -> None:
    z, y, x = np.ogrid[tuple(slice(0, size) for size in shape)]
    reference = ((y / shape[1]) ** 2 + (x / shape[2]) ** 2 < 0.8) & (z < 40)  # at a corner
    prediction = np.roll(reference, (3, 5), axis=(1, 2))
    times = {(1, 300, 400): 10, (60, 70, 80): 2}[shape]

    def rim(mask: Mask) -> Mask:
        flat = np.pad(mask[0] if shape[0] == 1 else mask, 1)
        cube = np.ones((3,) * flat.ndim)
        return np.asarray(flat & ~ndimage.binary_erosion(flat, cube, iterations=times))

    common, either = rim(prediction) & rim(reference), rim(prediction) | rim(reference)
    pair = pair_of(prediction.astype(np.uint8), reference.astype(np.uint8))
    assert boundary_iou(pair) == common.sum() / either.sum()


def test_boundary_iou_erodes_at_least_once() -> None:
    reference = np.zeros((1, 20, 20), np.uint8)
    reference[0, 5:15, 5:15] = 1  # a rim of 36
    prediction = np.roll(reference, 1, axis=2)  # 9 voxels above and 9 below are of both rims
    assert boundary_iou(pair_of(prediction, reference)) == pytest.approx(18 / (36 + 36 - 18))


@pytest.mark.parametrize("shape", [(1, 300, 400), (60, 80, 100)])
def test_boundary_f1_is_that_of_voxels_within_a_share_of_the_diagonal(
    shape: tuple[int, int, int],
) -> None:
    masks = [mask > 0 for mask in blobs(shape)]
    flat = [mask[0] if shape[0] == 1 else mask for mask in masks]
    rims = [mask & ~ndimage.binary_erosion(mask) for mask in flat]
    limit = 0.0075 * {(1, 300, 400): 500.0, (60, 80, 100): sqrt(20000)}[shape]
    far = [ndimage.distance_transform_edt(~rim) for rim in rims]
    precision = (far[1][rims[0]] <= limit).mean()
    recall = (far[0][rims[1]] <= limit).mean()
    pair = pair_of(*blobs(shape))
    assert boundary_f1(pair) == pytest.approx(2 * precision * recall / (precision + recall))


def test_boundaries_far_apart_have_no_f1_and_no_iou() -> None:
    masks = np.zeros((2, 9, 9, 9), np.uint8)
    masks[0, 1, 1, 1] = masks[1, 7, 7, 7] = 1
    pair = pair_of(*masks)
    assert boundary_f1(pair) == boundary_iou(pair) == cldice(pair) == 0


@pytest.mark.parametrize("shape", [(1, 9, 40), (9, 9, 40)])
def test_half_of_a_line_has_all_precision_and_half_the_sensitivity(
    shape: tuple[int, int, int],
) -> None:
    reference = np.zeros(shape, np.uint8)
    reference[0, 4, 10:30] = 1
    prediction = reference.copy()
    prediction[..., 20:] = 0
    assert cldice(pair_of(prediction, reference)) == pytest.approx(2 * 0.5 / 1.5)


def test_a_block_that_thinning_removes_agrees_with_itself() -> None:
    block = np.ones((4, 4, 4), np.uint8)
    assert not skeletonize(block).any()
    assert cldice(pair_of(block, block)) == 1


def test_a_thick_tube_around_a_thin_one_has_its_centreline() -> None:
    reference = np.zeros((15, 15, 60), np.uint8)
    reference[7, 7, 5:55] = 1
    prediction = ndimage.binary_dilation(reference, np.ones((7, 7, 1))).astype(np.uint8)
    assert cldice(pair_of(prediction, reference)) > 0.9


def test_distances_of_a_pair_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, reference = blobs((6, 9, 9))
    pair = pair_of(prediction, reference)
    before = [metric(pair) for metric in (hd_mm, hd95_mm, asd_mm, nsd)]
    monkeypatch.setattr("autoseg.evaluation.mask_pair.surface_distances", None)
    assert [metric(pair) for metric in (hd_mm, hd95_mm, asd_mm, nsd)] == before


def test_every_combination_of_masks_and_kinds_has_all_scores() -> None:
    for shape, kind in product([(1, 8, 9), (7, 8, 9)], KINDS):
        scores = [METRICS[name].score(pair_of(*blobs(shape), kind=kind)) for name in NAMES]
        assert all(isinstance(score, float) and np.isfinite(score) for score in scores)
