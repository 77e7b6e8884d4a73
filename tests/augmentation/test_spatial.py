from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import interpolate, ndimage

from autoseg.augmentation.policy import no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import (
    control_counts,
    cut_patches,
    rotation_matrix,
    source_box,
    spline_matrix,
)
from autoseg.dataset.labels import IGNORED
from autoseg.preprocessing.store import StoredCase
from tests.objects_made_up import balls

CPU = torch.device("cpu")
PATCH = (12, 14, 10)
SHAPE = (40, 44, 42)


@pytest.fixture
def case() -> StoredCase:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5).astype(np.float32) * 5
    label = np.digitize(image, [-0.5, 0.5]).astype(np.uint8)
    return StoredCase(SHAPE, image[None], label, None, {})


def sample(
    case: StoredCase,
    start: tuple[int, int, int],
    matrix: np.ndarray | None,
    **changes: Any,
) -> RawSample:
    augmentation = replace(no_augmentation(1), matrix=matrix, **changes)
    box, centre = source_box(start, PATCH, augmentation)
    patch = case.read(box)
    return RawSample(
        "case", patch.image, patch.label, patch.outside, patch.maps, centre, augmentation
    )


def test_an_unchanged_patch_is_a_plain_crop(case: StoredCase) -> None:
    patches = cut_patches([sample(case, (3, 4, 5), None)], PATCH, CPU)
    crop = (slice(3, 15), slice(4, 18), slice(5, 15))
    np.testing.assert_array_equal(patches.image[0, 0], case.image[0][crop])
    np.testing.assert_array_equal(patches.label[0], case.label[crop])


def test_rotated_patches_equal_scipys_affine_transform(case: StoredCase) -> None:
    matrices = [
        rotation_matrix(np.deg2rad([20, -30, 10])) * 1.3,
        rotation_matrix(np.deg2rad([0, 0, 90])) * 0.8,
    ]
    start = (14, 15, 16)
    samples = [sample(case, start, matrix) for matrix in matrices]
    patches = cut_patches(samples, PATCH, CPU)
    image, label = patches.image, patches.label
    centre = np.array(start) + (np.array(PATCH) - 1) / 2
    for index, matrix in enumerate(matrices):
        offset = centre - matrix @ ((np.array(PATCH) - 1) / 2)

        def warp(
            volume: np.ndarray, matrix: np.ndarray = matrix, offset: np.ndarray = offset
        ) -> np.ndarray:
            return np.asarray(
                ndimage.affine_transform(volume, matrix, offset, output_shape=PATCH, order=1)
            )

        np.testing.assert_allclose(image[index, 0], warp(case.image[0]), atol=2e-4)
        scores = np.stack([warp((case.label == c).astype(float)) for c in range(3)])
        clear = np.diff(np.sort(scores, axis=0)[-2:], axis=0)[0] > 1e-3
        np.testing.assert_array_equal(label[index].numpy()[clear], scores.argmax(0)[clear])


def test_the_box_holds_every_corner_of_the_rotated_patch() -> None:
    matrix = rotation_matrix(np.deg2rad([40, 35, -20])) * 1.4
    box, centre = source_box((5, 6, 7), PATCH, replace(no_augmentation(1), matrix=matrix))
    corners = np.array(np.meshgrid(*[(-(n - 1) / 2, (n - 1) / 2) for n in PATCH])).reshape(3, -1)
    positions = matrix @ corners + centre[:, None]
    assert (positions >= 0).all()
    assert (positions <= np.array(box.shape)[:, None] - 1).all()


def test_mirroring_turns_image_and_label_alike(case: StoredCase) -> None:
    plain = cut_patches([sample(case, (3, 4, 5), None)], PATCH, CPU)
    mirrored = cut_patches([sample(case, (3, 4, 5), None, mirrored_axes=(0, 2))], PATCH, CPU)
    assert torch.equal(mirrored.image[0], plain.image[0].flip(1, 3))
    assert torch.equal(mirrored.label[0], plain.label[0].flip(0, 2))


def test_beyond_the_case_there_is_background(case: StoredCase) -> None:
    everywhere = StoredCase(SHAPE, case.image, np.full(SHAPE, 2, np.uint8), None, {})
    matrix = rotation_matrix(np.deg2rad([45, 0, 0]))
    label = cut_patches([sample(everywhere, (-6, -7, 10), matrix)], PATCH, CPU).label
    assert set(label.flatten().tolist()) == {0, 2}


def test_rotations_keep_lengths_and_handedness() -> None:
    matrix = rotation_matrix(np.array([0.3, -1.0, 2.0]))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_elastic_patches_equal_scipys_map_coordinates(case: StoredCase) -> None:
    rng = np.random.default_rng(4)
    control = rng.uniform(-3, 3, (3, *control_counts(PATCH, 5)))
    matrix = rotation_matrix(np.deg2rad([0, 0, 25]))
    start = (14, 15, 16)
    found = cut_patches([sample(case, start, matrix, displacement_vox=control)], PATCH, CPU)
    displacement = control
    for axis, size in enumerate(PATCH, start=1):
        # Cubic B-splines by their definition: control point i + 1 lies at interval i.
        intervals = control.shape[axis] - 3
        knots = np.arange(-3, control.shape[axis] + 1)
        basis = interpolate.BSpline(knots, np.eye(control.shape[axis]), 3)
        weights = basis(np.linspace(0, intervals, size))
        displacement = np.moveaxis(np.tensordot(weights, displacement, (1, axis)), 0, axis)
    offset = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in PATCH], indexing="ij"))
    centre = np.array(start) + (np.array(PATCH) - 1) / 2
    position = np.tensordot(matrix, offset, (1, 0)) + centre[:, None, None, None] + displacement
    expected = ndimage.map_coordinates(case.image[0], position, order=1)
    np.testing.assert_allclose(found.image[0, 0], expected, atol=2e-4)


def test_voxels_move_no_further_than_control_points() -> None:
    weights = spline_matrix(23, 9)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_the_previous_mask_moves_with_the_label(case: StoredCase) -> None:
    with_mask = replace(case, maps={"stage_mask": case.label})
    matrix = rotation_matrix(np.deg2rad([20, -30, 10]))
    samples = [
        sample(with_mask, (14, 15, 16), matrix, mirrored_axes=(1,)),
        sample(with_mask, (3, 4, 5), None, mirrored_axes=(0,)),
    ]
    patches = cut_patches(samples, PATCH, CPU)
    assert torch.equal(patches.maps["stage_mask"], patches.label)
    assert len(torch.unique(patches.label)) == 3


def test_numbers_of_objects_move_with_the_labels_and_stay_numbers() -> None:
    numbers = np.zeros(SHAPE, np.int32)
    numbers[:, 8:20, 6:14], numbers[:, 8:20, 14:24] = 70_001, 5
    label = (numbers > 0).astype(np.uint8)
    matrix = rotation_matrix(np.array([0.4, 0, 0]))
    turned = replace(no_augmentation(1), matrix=matrix, mirrored_axes=(2,))
    centre = (np.array(SHAPE) - 1) / 2
    raw = RawSample("a", np.ones((1, *SHAPE), np.float32), label, None, {}, centre, turned)
    patches = cut_patches([replace(raw, objects=numbers)], SHAPE, CPU)
    assert patches.objects is not None
    assert np.unique(patches.objects.numpy()).tolist() == [0, 5, 70_001]
    assert torch.equal(patches.objects > 0, patches.label > 0)


@pytest.mark.parametrize("shape", [(24, 28, 26), (1, 60, 50)])
@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_no_rim_of_a_turned_object_is_without_its_number(
    shape: tuple[int, int, int], zoom: float
) -> None:
    flat = shape[0] == 1
    numbers = balls(shape[1:], (1.0, 1.0))[None] if flat else balls(shape, (1.0, 1.0, 1.0))
    matrix = zoom * rotation_matrix(np.array([0.4, 0, 0] if flat else [0.4, -0.3, 0.2]))
    turned = replace(no_augmentation(1), matrix=matrix)
    centre = (np.array(shape) - 1) / 2
    label = (numbers > 0).astype(np.uint8)
    raw = RawSample("a", np.ones((1, *shape), np.float32), label, None, {}, centre, turned)
    patches = cut_patches([replace(raw, objects=numbers)], shape, CPU)
    assert patches.objects is not None
    assert torch.equal(patches.objects > 0, patches.label > 0)
    for beside in (2, IGNORED):  # stuff, or what nobody annotated, around them
        filled = replace(raw, label=np.where(label, label, beside).astype(np.uint8))
        among = cut_patches([replace(filled, objects=numbers)], shape, CPU)
        assert among.objects is not None
        assert torch.equal(among.objects > 0, among.label == 1)
    for number in range(1, int(numbers.max()) + 1):  # each is where it would be by itself
        alone = replace(raw, label=(numbers == number).astype(np.uint8))
        expected = cut_patches([alone], shape, CPU).label[0] > 0
        off = (patches.objects[0] == number) ^ expected
        assert int(off.sum()) <= 0.15 * max(20, int(expected.sum()))
