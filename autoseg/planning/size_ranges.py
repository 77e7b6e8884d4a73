"""Which sizes of objects are looked for together, from those that a dataset has."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

ENDLESS_MM = 1e6
MOST_RANGES = 5  # as published
UNKNOWN_VOX = (8.0, 32.0)  # where no objects are known, of the coarsest axis
PERCENTILES = (5, 99.5)  # of objects: the smallest and the largest that are looked for

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How wide the smallest and the largest objects are, 5th and 99.5th percentiles; 0 where nobody
    knows."""

    smallest_mm: float = 0.0
    largest_mm: float = 0.0

    @classmethod
    def of(cls, boxes_vox: NDArray[np.float64], spacing_mm: Sequence[float]) -> "Sizes":
        """Of boxes around objects [object, axis]: the geometric means of their sides."""
        if not len(boxes_vox):
            return NO_SIZES
        wide_mm = np.exp(np.log(boxes_vox * np.array(spacing_mm)).mean(axis=1))
        smallest, largest = np.percentile(wide_mm, PERCENTILES)
        return cls(float(smallest), float(largest))

    def known(self, spacing_mm: Sequence[float]) -> Range:
        """They, at least two voxels of the finest axis wide; or what is usual."""
        if not self.largest_mm:
            low, high = UNKNOWN_VOX
            return low * max(spacing_mm), high * max(spacing_mm)
        low = max(self.smallest_mm, 2 * min(spacing_mm))
        return low, max(low, self.largest_mm)


NO_SIZES = Sizes()


def solo_ranges(sizes: Sizes, spacing_mm: Sequence[float]) -> tuple[Range, ...]:
    """Diameters in mm, each range four times as wide as it is low and from twice the one before on,
    so that two neighbours share an octave, as SOLOv2's do (Wang et al. 2020)."""
    low, high = sizes.known(spacing_mm)
    count = min(MOST_RANGES, max(1, ceil(log2(high / low)) - 1))
    return tuple((low * 2**k, low * 2 ** (k + 2)) for k in range(count))


def open_ranges(sizes: Sizes, spacing_mm: Sequence[float]) -> tuple[Range, ...]:
    """The same, where the first also takes what is smaller, and the last what is larger."""
    ranges = [list(each) for each in solo_ranges(sizes, spacing_mm)]
    ranges[0][0], ranges[-1][1] = 0.0, ENDLESS_MM
    return tuple((round(low, 4), round(high, 4)) for low, high in ranges)


def octaves(sizes: Sizes, spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """Edges in mm of boxes, each twice the one before, within half an octave of every size."""
    low, high = sizes.known(spacing_mm)
    count = min(MOST_RANGES, max(1, ceil(log2(high / low))))
    middle = (low * high) ** 0.5
    return tuple(middle * 2 ** (k - (count - 1) / 2) for k in range(count))
