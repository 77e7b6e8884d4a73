from collections.abc import Iterator

import numpy as np
import pytest
import torch

from autoseg.errors import AutosegError
from autoseg.inference import merging
from autoseg.inference.merging import DenseSums

OUTPUTS, PATCH, SHAPE = 3, (5, 6, 7), (17, 15, 18)
Start = tuple[int, int, int]
Span = tuple[int, int]
Patches = list[tuple[Start, np.ndarray]]


def random_patches(rng: np.random.Generator) -> Patches:
    """Patches that cover the scan, more at random places among them, in order along z."""
    regular = [range(0, size, patch) for size, patch in zip(SHAPE, PATCH, strict=True)]
    starts = [(z, y, x) for z in regular[0] for y in regular[1] for x in regular[2]]
    starts += [(int(z), int(y), int(x)) for z, y, x in rng.integers(0, SHAPE, (40, 3))]
    last = [size - patch for size, patch in zip(SHAPE, PATCH, strict=True)]
    inside = [(min(z, last[0]), min(y, last[1]), min(x, last[2])) for z, y, x in starts]
    logits = rng.normal(size=(len(inside), OUTPUTS, *PATCH)).astype(np.float32)
    return sorted(zip(inside, logits, strict=True), key=lambda patch: patch[0])


def mean_by_definition(patches: Patches, weight: np.ndarray) -> np.ndarray:
    """All of the scan at once, in double precision."""
    total, weights = np.zeros((OUTPUTS, *SHAPE)), np.zeros(SHAPE)
    for (z, y, x), logits in patches:
        box = (slice(z, z + PATCH[0]), slice(y, y + PATCH[1]), slice(x, x + PATCH[2]))
        total[:, *box] += logits * weight
        weights[box] += weight
    mean: np.ndarray = total / weights
    return mean


def merged(patches: Patches, weight: np.ndarray, column: tuple[Span, Span]) -> Iterator[np.ndarray]:
    """Finished rows of a column, as soon as no later patch reaches them."""
    sums = DenseSums(PATCH[0], column, torch.from_numpy(weight))
    top = 0
    for (z, *yx), logits in patches:
        if z > top:
            yield from (rows.numpy() for rows in sums.means(0, z - top))
            sums.advance(z - top)
            top = z
        if all(
            start < high and start + size > low
            for start, size, (low, high) in zip(yx, PATCH[1:], column, strict=True)
        ):
            sums.add(torch.from_numpy(logits), yx)
    yield from (rows.numpy() for rows in sums.means(0, SHAPE[0] - top))
    sums.check()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "column", [((0, 15), (0, 18)), ((4, 11), (3, 17)), ((14, 15), (0, 18)), ((7, 9), (8, 9))]
)
def test_sums_give_the_weighted_mean_of_all_patches(seed: int, column: tuple[Span, Span]) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.01, 10, PATCH).astype(np.float32)
    patches = random_patches(rng)
    found = np.concatenate(list(merged(patches, weight, column)), axis=1)
    y, x = (slice(*span) for span in column)
    expected = mean_by_definition(patches, weight)[:, :, y, x]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_finished_rows_come_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight, patches = np.ones(PATCH, np.float32), random_patches(rng)
    whole = ((0, SHAPE[1]), (0, SHAPE[2]))
    expected = np.concatenate(list(merged(patches, weight, whole)), axis=1)
    monkeypatch.setattr(merging, "BYTES_AT_ONCE", 2 * 4 * OUTPUTS * SHAPE[1] * SHAPE[2])
    pieces = list(merged(patches, weight, whole))
    assert max(piece.shape[1] for piece in pieces) == 2
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    patches = random_patches(np.random.default_rng(0))
    patches[-1][1][1, 2, 3, 4] = value
    with pytest.raises(AutosegError, match="not finite"):
        list(merged(patches, np.ones(PATCH, np.float32), ((0, 15), (0, 18))))
