"""Cells of a grid over a patch, in which queries begin."""

from collections.abc import Sequence
from math import ceil, prod

import numpy as np


def cells_over(extent_mm: Sequence[float], count: int) -> tuple[int, ...]:
    """A grid of at least so many cells, and hardly more, that are about as wide along each axis."""
    cells, left = [1] * len(extent_mm), float(count)
    *shorter, longest = np.argsort(extent_mm, kind="stable").tolist()
    for done, axis in enumerate(shorter):
        others_mm = [extent_mm[other] for other in (*shorter[done:], longest)]
        edge_mm = (prod(others_mm) / left) ** (1 / len(others_mm))
        cells[axis] = max(1, round(extent_mm[axis] / edge_mm))
        left = max(1.0, left / cells[axis])
    cells[longest] = ceil(left - 1e-6)
    return tuple(cells)
