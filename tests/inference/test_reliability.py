import numpy as np
import pytest
import torch
from scipy.special import softmax

from autoseg.dataset.labels import IGNORED, LabelScheme, Region
from autoseg.inference.reliability import ReliabilitySums, Truth
from autoseg.inference.restore import Block

BINS = 10
SHAPE = (6, 7, 8)
CLASSES = LabelScheme(values=(0, 1, 2, 3), names=("background", "a", "b", "never"))
REGIONS = LabelScheme(
    values=(0, 4, 7),
    names=("background", "rim", "core"),
    regions=(Region(name="whole", values=(4, 7)), Region(name="core", values=(7,))),
    region_order=(4, 7),
)


@pytest.fixture
def truth() -> np.ndarray:
    """Class indices with two cuboids, and a voxel in the first that nobody looked at."""
    classes = np.zeros(SHAPE, np.uint8)
    classes[1:4, 2:5, 1:6] = 1
    classes[3:5, 5:6, 6:8] = 2
    classes[2, 3, 3] = IGNORED
    return classes


def counts_of(labels: LabelScheme, p: np.ndarray, truth: np.ndarray, size: int) -> np.ndarray:
    """Counted in blocks of some rows and columns."""
    whole, sums = Truth.of(truth, labels), ReliabilitySums(labels, BINS)
    for z in range(0, SHAPE[0], size):
        for x in range(0, SHAPE[2], size):
            place = (slice(z, min(z + size, SHAPE[0])), slice(0, SHAPE[1]),
                     slice(x, min(x + size, SHAPE[2])))  # fmt: skip
            values = torch.from_numpy(p[:, *place])
            sums.add(values, whole.in_block(Block(place, values)))
    return sums.result()


def expected_of(p: np.ndarray, there: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Histograms of the whole volume of one class."""
    box = np.zeros(SHAPE, bool)
    if there.any():
        box[tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(there))] = True
    counted = ((p >= 1 / BINS) | box) & (truth != IGNORED)
    return np.array(
        [
            np.histogram(p[counted], BINS, (0, 1), weights=weights[counted])[0]
            for weights in (np.ones(SHAPE), p, there.astype(float))
        ]
    )


@pytest.mark.parametrize("size", [2, 3, 8])
def test_counts_of_blocks_are_histograms_of_the_volume(truth: np.ndarray, size: int) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (4, *SHAPE)).astype(np.float32)
    p = softmax(scores, axis=0)
    found = counts_of(CLASSES, p, truth, size)
    assert found.shape == (3, 3, BINS)
    for index in (1, 2, 3):
        expected = expected_of(p[index], truth == index, truth)
        np.testing.assert_allclose(found[index - 1], expected, rtol=1e-5)
    assert found[2, 0, 0] == 0 < found[2, 0, 1:].sum()  # it is nowhere, and seen with doubt


def test_regions_hold_the_classes_of_all_their_values(truth: np.ndarray) -> None:
    p = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    whole, core = counts_of(REGIONS, p, truth, 3)
    np.testing.assert_allclose(whole, expected_of(p[0], np.isin(truth, (1, 2)), truth), rtol=1e-5)
    np.testing.assert_allclose(core, expected_of(p[1], truth == 2, truth), rtol=1e-5)


def test_background_beyond_the_box_of_a_class_does_not_count(truth: np.ndarray) -> None:
    p = np.zeros((4, *SHAPE), np.float32)
    found = counts_of(CLASSES, p, truth, 8)
    assert found[:, 0].sum(axis=-1).tolist() == [3 * 3 * 5 - 1, 2 * 1 * 2, 0]
    assert found[:, 2].sum(axis=-1).tolist() == [3 * 3 * 5 - 1, 4, 0]
