"""How often 95 % intervals hold the true mean, for both kinds of bootstrap and several numbers of
patients; scores are drawn from distributions whose mean is known.

    python -m benchmarks.intervals > benchmarks/results/intervals.json
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.statistics import Method, resample_means

Floats = NDArray[np.floating[Any]]
METHODS: tuple[Method, ...] = ("percentile", "bca")
DATA_SETS, SEED = 1000, 7
PATIENTS = (10, 20, 30, 50, 100)


def easy(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Dice of a large organ."""
    return rng.beta(30, 3, shape)


def misses(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Dice of a lesion that is missed in one of ten scans."""
    return np.where(rng.random(shape) < 0.1, 0, rng.beta(8, 3, shape))


def distances(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Distances in mm, of which a few are large."""
    return rng.lognormal(1, 1, shape)


KINDS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Floats], float]] = {
    "easy": (easy, 30 / 33),
    "misses": (misses, 0.9 * 8 / 11),
    "distances": (distances, float(np.exp(1.5))),
}


def row(kind: str, patients: int) -> dict[str, Any]:
    """Shares of data sets whose interval holds the mean, or lies beside it."""
    draw, mean = KINDS[kind]
    scores = draw(np.random.default_rng(SEED), (patients, DATA_SETS))
    means = resample_means(scores, [str(number) for number in range(patients)])
    found: dict[str, Any] = {"scores": kind, "patients": patients}
    for method in METHODS:
        low, high = means.intervals(method)
        found[method] = {
            "holds": float(np.mean((low <= mean) & (mean <= high))),
            "too_low": float(np.mean(high < mean)),
            "too_high": float(np.mean(low > mean)),
        }
    return found


def main() -> None:
    print(json.dumps([row(kind, patients) for kind in KINDS for patients in PATIENTS], indent=1))


if __name__ == "__main__":
    main()
