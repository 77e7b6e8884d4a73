"""Where the values of a label map are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TABLE_UP_TO = 2**16  # SciPy's table has a row for every value up to the largest

Slices = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class ValueBoxes:
    """The bounding box of every value above 0 that a label map [z, y, x] has."""

    whole: Slices
    by_value: Mapping[int, Slices]

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]]) -> "ValueBoxes":
        """Of a map of any integers. Those beyond 16 bits cost a copy of it."""
        whole = tuple(slice(0, size) for size in labels.shape)
        largest = int(labels.max(initial=0))
        if largest <= TABLE_UP_TO:
            return cls(whole, _found(labels, largest))
        numbers, number_of = fastremap.renumber(labels, preserve_zero=True)
        found = _found(numbers, len(number_of))
        return cls(whole, {int(v): found[int(n)] for v, n in number_of.items() if v > 0})

    def around(self, values: tuple[int, ...]) -> Slices | None:
        """The smallest box that holds some values, or None; all of the map for the background."""
        if min(values) <= 0:
            return self.whole
        return joined([self.by_value[value] for value in values if value in self.by_value])


def joined(boxes: list[Slices]) -> Slices | None:
    """The smallest box that holds others; None of none."""
    if not boxes:
        return None
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )


def _found(numbers: NDArray[np.integer[Any]], largest: int) -> dict[int, Slices]:
    if largest < 1:  # which SciPy takes for not given
        return {}
    boxes = ndimage.find_objects(numbers, largest)
    return {value: box for value, box in enumerate(boxes, 1) if box is not None}
