"""Numbered objects that touch, straight, bent or round, on any grid."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]


def around_curves(
    shape: Sequence[int], spacing_mm: Sequence[float], curves: Sequence[object], radius_mm: float
) -> Numbers:
    """Voxels within a radius of curves [point, axis] in mm, numbered by the nearest, from 1."""
    places = np.argwhere(np.ones(shape, bool)) * np.array(spacing_mm)
    distances = np.stack(
        [np.linalg.norm(places[:, None] - np.array(c)[None], axis=-1).min(1) for c in curves]
    )
    numbers = np.where(distances.min(0) < radius_mm, distances.argmin(0) + 1, 0)
    return numbers.reshape(shape).astype(np.int32)


def balls(shape: Sequence[int], spacing_mm: Sequence[float], seed: int = 0) -> Numbers:
    """Balls of 6 mm whose centres are random, 9 mm apart at least, so that most touch."""
    rng = np.random.default_rng(seed)
    ends = np.array(shape) * spacing_mm - 6
    centres: list[NDArray[np.float64]] = []
    for centre in rng.uniform(6, ends, (300, len(shape))):
        if all(np.linalg.norm(centre - other) > 9 for other in centres):
            centres.append(centre)
    return around_curves(shape, spacing_mm, [[centre] for centre in centres], 6)


def arcs(shape: Sequence[int], spacing_mm: Sequence[float]) -> Numbers:
    """Bands of three quarters of a circle, each within the next, that touch all along."""
    middle = np.array(shape) * spacing_mm / 2
    angles = np.linspace(0, 1.5 * np.pi, 50)
    curves = []
    for radius in (6, 14, 22):
        curve = np.tile(middle, (50, 1))
        curve[:, -2] += radius * np.sin(angles)
        curve[:, -1] += radius * np.cos(angles)
        curves.append(curve)
    return around_curves(shape, spacing_mm, curves, 4.5)


def rods(shape: Sequence[int], spacing_mm: Sequence[float]) -> Numbers:
    """Straight ones side by side, eight times as long as they are wide."""
    middle = np.array(shape) * spacing_mm / 2
    along = np.linspace(5, shape[-1] * spacing_mm[-1] - 5, 50)
    curves = []
    for place in (-8, 0, 8):
        curve = np.tile(middle, (50, 1))
        curve[:, -2] += place
        curve[:, -1] = along
        curves.append(curve)
    return around_curves(shape, spacing_mm, curves, 4.5)


def recovered(truth: Numbers, found: NDArray[np.integer]) -> NDArray[np.float64]:
    """The intersection over union of each true object with what overlaps it most."""
    best = []
    for number in np.unique(truth[truth > 0]):
        own = truth == number
        likeliest = np.bincount(found[own]).argmax()
        both = own & (found == likeliest)
        best.append(both.sum() / (own | (found == likeliest)).sum() if likeliest else 0.0)
    return np.array(best)
