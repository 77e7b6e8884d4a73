"""From logits on a plan's grid to a source's grid, a few rows of a column at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.geometry import Placement
from autoseg.planning.grid_plan import ResamplingPlan
from autoseg.preprocessing.resample import interpolation_matrix, separate_axis

COLUMNS_AT_ONCE = 64  # of a matrix, which is a narrow band of numbers that are not 0

D = TypeVar("D", bound=np.generic)
Span = tuple[int, int]  # half-open
Rows = Iterable[torch.Tensor]  # [output, rows, y, x], in order along the first axis
Predict = Callable[[Span, Span], Rows]  # all rows of a range of y and of x on the plan's grid


@dataclass(frozen=True, slots=True)
class Column:
    """Ranges of y and x, in voxels of a source's crop along the plan's axes."""

    y: Span
    x: Span


@dataclass(frozen=True, slots=True)
class Block:
    """Values [output, rows, y, x] on the source's resolution, and where they lie in the crop."""

    place: tuple[slice, slice, slice]
    values: torch.Tensor


def restored_blocks(
    predict: Predict,
    placement: Placement,
    plan: ResamplingPlan,
    columns: Sequence[Column],
    rows_at_once: int,
) -> Iterator[Block]:
    """Logits of a source's crop, `rows_at_once` of a column after another.

    They are those of resampling all logits at once, but only a few rows are held.
    """
    matrices = interpolation_matrices(placement, plan)
    for column in columns:
        y = Interpolation.of(matrices[1], column.y)
        x = Interpolation.of(matrices[2], column.x)
        rows = _RowReader(iter(predict(y.source, x.source)))
        for first in range(0, placement.crop.shape[0], rows_at_once):
            last = min(placement.crop.shape[0], first + rows_at_once)
            part = Interpolation.of(matrices[0], (first, last))
            values = rows.read(part.source)
            for axis, interpolation in ((2, y), (3, x), (1, part)):
                values = interpolation.apply(values, axis)
            yield Block((slice(first, last), slice(*column.y), slice(*column.x)), values)
        rows.exhaust()


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How the voxels of a range are made from those of a `source` range; no matrix: as they are."""

    source: Span
    matrix: NDArray[np.float32] | None  # [out, in]

    @classmethod
    def of(cls, matrix: NDArray[np.float32] | None, span: Span) -> "Interpolation":
        if matrix is None:
            return cls(span, None)
        used = np.flatnonzero(matrix[slice(*span)].any(axis=0))
        source = (int(used[0]), int(used[-1]) + 1)
        return cls(source, matrix[slice(*span), slice(*source)])

    def apply(self, values: torch.Tensor, axis: int) -> torch.Tensor:
        """Multiply the matrix along an axis of [output, z, y, x]."""
        if self.matrix is None:
            return values
        shape = list(values.shape)
        shape[axis] = len(self.matrix)
        result = values.new_empty(shape)
        for first in range(0, len(self.matrix), COLUMNS_AT_ONCE):
            rows = self.matrix[first : first + COLUMNS_AT_ONCE]
            used = np.flatnonzero(rows.any(axis=0))
            low, high = int(used[0]), int(used[-1]) + 1
            band = torch.from_numpy(rows[:, low:high]).to(values.device)
            part = values.narrow(axis, low, high - low)
            result.narrow(axis, first, len(rows)).copy_(_product(band, part, axis))
        return result


class _RowReader:
    """Rows by their numbers, out of pieces that come in order; earlier ones are forgotten.

    Spans may overlap or leave rows out, but none may start before the one that was read last.
    """

    def __init__(self, pieces: Iterator[torch.Tensor]) -> None:
        self.pieces = pieces
        self.held: torch.Tensor | None = None
        self.first = self.end = 0  # of the rows that are held

    def read(self, span: Span) -> torch.Tensor:
        low, high = span
        parts = []
        if self.held is not None and self.end > low:
            parts.append(self.held[:, low - self.first :])
        while self.end < high:
            piece = next(self.pieces)
            start, self.end = self.end, self.end + piece.shape[1]
            if self.end > low:
                parts.append(piece[:, max(0, low - start) :])
        self.held = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        self.first = low
        return self.held[:, : high - low]

    def exhaust(self) -> None:
        """Come to the end, at which those who give the rows look whether all went well."""
        for _ in self.pieces:
            pass


def interpolation_matrices(
    placement: Placement, plan: ResamplingPlan
) -> tuple[NDArray[np.float32] | None, ...]:
    """Matrices [out, in] of each axis, back to the source; None where the size stays."""
    separate = separate_axis(
        placement.target_spacing_mm, placement.source_spacing_mm, plan.separate_axis_ratio
    )
    sizes = zip(placement.resampled_shape_vox, placement.crop.shape, strict=True)
    return tuple(
        interpolation_matrix(size_in, size_out, 0 if axis == separate else plan.logits_order)
        if size_in != size_out
        else None
        for axis, (size_in, size_out) in enumerate(sizes)
    )


def crop_of(array: NDArray[D], placement: Placement) -> NDArray[D]:
    """The crop, along the plan's axes, of an array [..., z, y, x] on the source's grid: a view."""
    index: Any = (..., *placement.crop.slices)
    cropped: NDArray[D] = placement.to_plan_axes(array)[index]
    return cropped


def _product(band: torch.Tensor, values: torch.Tensor, axis: int) -> torch.Tensor:
    """A matrix along axis 1, 2 or 3 of [output, z, y, x]."""
    if axis == 3:
        return torch.matmul(values, band.T)
    if axis == 2:
        return torch.matmul(band, values)
    outputs, _, height, width = values.shape
    flat = torch.matmul(band, values.reshape(outputs, -1, height * width))
    return flat.view(outputs, -1, height, width)
