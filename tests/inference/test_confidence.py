import numpy as np
import pytest
import torch
from scipy.special import softmax

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.inference.confidence import ConfidenceSums

CLASSES = LabelScheme(values=(0, 1, 2, 3), names=("background", "a", "b", "never"))
REGIONS = LabelScheme(
    values=(0, 1, 2),
    names=("background", "rim", "core"),
    regions=(Region(name="whole", values=(1, 2)), Region(name="core", values=(2,))),
    region_order=(1, 2),
)


@pytest.fixture
def probabilities() -> np.ndarray:
    scores = np.random.default_rng(0).normal(0, 2, (4, 6, 7, 8))
    scores[3] = -20
    found: np.ndarray = softmax(scores, axis=0).astype(np.float32)
    return found


def sums_of(labels: LabelScheme, p: np.ndarray, classes: np.ndarray, rows: int) -> ConfidenceSums:
    sums = ConfidenceSums(labels)
    for first in range(0, classes.shape[0], rows):
        part = slice(first, first + rows)
        sums.add(torch.from_numpy(p[:, part]), torch.from_numpy(classes[part]))
    return sums


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_sums_over_blocks_are_those_of_the_volume(probabilities: np.ndarray, rows: int) -> None:
    classes = probabilities.argmax(0).astype(np.uint8)
    confidences = sums_of(CLASSES, probabilities, classes, rows).result()
    assert [c.name for c in confidences] == ["a", "b", "never"]
    for index in (1, 2):
        found, p, mask = confidences[index - 1], probabilities[index], classes == index
        assert found.voxels == mask.sum()
        assert found.expected_voxels == pytest.approx(p.sum(), rel=1e-5)
        assert found.expected_dice == pytest.approx(
            2 * p[mask].sum() / (mask.sum() + p.sum()), rel=1e-5
        )
        assert found.mean_probability == pytest.approx(p[mask].mean(), rel=1e-5)
        assert found.largest_probability == p.max()
        assert found.doubt == pytest.approx((p * (1 - p)).sum() / mask.sum(), rel=1e-4)


def test_an_empty_mask_has_no_expected_dice(probabilities: np.ndarray) -> None:
    classes = probabilities.argmax(0).astype(np.uint8)
    never = sums_of(CLASSES, probabilities, classes, 3).result()[2]
    assert (never.voxels, never.expected_dice, never.mean_probability) == (0, None, None)
    assert 0 < never.largest_probability < 1e-4


def test_a_region_holds_what_was_painted_over_it() -> None:
    """Four voxels: outside, rim, core, and core again; worked out by hand."""
    p = np.array([[0.1, 0.8, 0.9, 1.0], [0.0, 0.2, 0.7, 0.9]], np.float32).reshape(2, 1, 1, 4)
    classes = np.array([0, 1, 2, 2], np.uint8).reshape(1, 1, 4)
    whole, core = sums_of(REGIONS, p, classes, 1).result()
    assert (whole.voxels, core.voxels) == (3, 2)
    assert whole.expected_dice == pytest.approx(2 * 2.7 / (3 + 2.8))
    assert core.expected_dice == pytest.approx(2 * 1.6 / (2 + 1.8))


def test_the_expected_dice_is_close_to_that_of_truths_drawn_from_the_probabilities(
    probabilities: np.ndarray,
) -> None:
    classes = probabilities.argmax(0).astype(np.uint8)
    expected = sums_of(CLASSES, probabilities, classes, 6).result()[0].expected_dice
    rng, mask = np.random.default_rng(1), classes == 1
    truths = (rng.random(mask.shape) < probabilities[1] for _ in range(300))
    drawn = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in truths]
    assert expected == pytest.approx(np.mean(drawn), abs=0.01)
