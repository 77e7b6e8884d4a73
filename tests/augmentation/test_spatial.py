import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.augmentation.policy import no_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import cut_patches, rotation_matrix, source_box
from autoseg.preprocessing.store import StoredCase

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
    mirrored: tuple[int, ...] = (),
) -> RawSample:
    box, centre = source_box(start, PATCH, matrix)
    image, label, outside = case.read(box)
    neutral = no_augmentation(1)
    augmentation = type(neutral)(
        **{name: getattr(neutral, name) for name in neutral.__slots__}
        | {"matrix": matrix, "mirrored_axes": mirrored}
    )
    return RawSample("case", image, label, outside, centre, augmentation)


def test_an_unchanged_patch_is_a_plain_crop(case: StoredCase) -> None:
    image, label, _ = cut_patches([sample(case, (3, 4, 5), None)], PATCH, CPU)
    crop = (slice(3, 15), slice(4, 18), slice(5, 15))
    np.testing.assert_array_equal(image[0, 0], case.image[0][crop])
    np.testing.assert_array_equal(label[0], case.label[crop])


def test_rotated_patches_equal_scipys_affine_transform(case: StoredCase) -> None:
    matrices = [
        rotation_matrix(np.deg2rad([20, -30, 10])) * 1.3,
        rotation_matrix(np.deg2rad([0, 0, 90])) * 0.8,
    ]
    start = (14, 15, 16)
    samples = [sample(case, start, matrix) for matrix in matrices]
    image, label, _ = cut_patches(samples, PATCH, CPU)
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
    box, centre = source_box((5, 6, 7), PATCH, matrix)
    corners = np.array(np.meshgrid(*[(-(n - 1) / 2, (n - 1) / 2) for n in PATCH])).reshape(3, -1)
    positions = matrix @ corners + centre[:, None]
    assert (positions >= 0).all()
    assert (positions <= np.array(box.shape)[:, None] - 1).all()


def test_mirroring_turns_image_and_label_alike(case: StoredCase) -> None:
    plain = cut_patches([sample(case, (3, 4, 5), None)], PATCH, CPU)
    mirrored = cut_patches([sample(case, (3, 4, 5), None, mirrored=(0, 2))], PATCH, CPU)
    assert torch.equal(mirrored[0][0], plain[0][0].flip(1, 3))
    assert torch.equal(mirrored[1][0], plain[1][0].flip(0, 2))


def test_beyond_the_case_there_is_background(case: StoredCase) -> None:
    everywhere = StoredCase(SHAPE, case.image, np.full(SHAPE, 2, np.uint8), None, {})
    matrix = rotation_matrix(np.deg2rad([45, 0, 0]))
    _, label, _ = cut_patches([sample(everywhere, (-6, -7, 10), matrix)], PATCH, CPU)
    assert set(label.flatten().tolist()) == {0, 2}


def test_rotations_keep_lengths_and_handedness() -> None:
    matrix = rotation_matrix(np.array([0.3, -1.0, 2.0]))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
