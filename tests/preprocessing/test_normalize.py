import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.inspection.statistics import IntensityStats
from autoseg.planning.grid_plan import ChannelNormalization, NormalizationKind
from autoseg.preprocessing.normalize import normalize

STATISTICS = IntensityStats(
    mean=10, std=5, min=-50, max=90, percentile_00_5=-20, median=9, percentile_99_5=40
)
MASK = np.zeros((4, 5, 6), bool)
MASK[1:3, 1:4, 2:5] = True


def normalized(
    kind: NormalizationKind, masked: bool = False, scale: float = 60
) -> tuple[np.ndarray, np.ndarray]:
    before = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32) * scale
    before[~MASK] *= 0 if masked else 1
    after = before[None].copy()
    plan = ChannelNormalization(channel="any", kind=kind, masked=masked, statistics=STATISTICS)
    normalize(after, MASK, [plan])
    return before.astype(float), after[0]


def test_zscore_uses_the_whole_scan() -> None:
    before, after = normalized("zscore")
    np.testing.assert_allclose(after, (before - before.mean()) / before.std(), atol=1e-5)


def test_masked_zscore_uses_the_inside_and_leaves_the_outside_at_0() -> None:
    before, after = normalized("zscore", masked=True)
    inside = before[MASK]
    np.testing.assert_allclose(after[MASK], (inside - inside.mean()) / inside.std(), atol=1e-5)
    assert not after[~MASK].any()


def test_ct_is_clipped_and_scaled_by_the_datasets_statistics() -> None:
    before, after = normalized("ct")
    np.testing.assert_allclose(after, (before.clip(-20, 40) - 10) / 5, atol=1e-5)


def test_rescaling_reaches_from_0_to_1() -> None:
    before, after = normalized("rescale_0_1")
    np.testing.assert_allclose(
        after, (before - before.min()) / (before.max() - before.min()), atol=1e-5
    )


def test_no_normalisation_changes_nothing() -> None:
    before, after = normalized("none")
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_colour_outside_a_byte_is_refused() -> None:
    with pytest.raises(AutosegError, match="8-bit colour"):
        normalized("rgb_0_1")


def test_a_constant_scan_becomes_0() -> None:
    _, after = normalized("zscore", scale=0)
    assert not after.any()
