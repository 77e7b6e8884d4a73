"""How to cut a scan into columns whose logits fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

from autoseg.export.restore import BYTES_AT_ONCE, Column, Interpolation, interpolation_matrices
from autoseg.geometry import Placement
from autoseg.inference.sliding_window import Span, reaching, tile
from autoseg.planning.memory import convolution_elements
from autoseg.planning.plan import Configuration

CUTS = (1, 2, 3, 4, 6, 8, 12, 16)  # along y, and along x
BLOCKS_HELD = 8  # finished logits before, while and after they are resampled
LOGITS_HELD = 3  # a patch's logits: of a mirror image, their sum, and on their way to the sums


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a scan takes that was put on a configuration's grid; `outputs` of the network."""

    configuration: Configuration
    placement: Placement
    outputs: int

    def network_bytes(self, inputs_at_once: int) -> int:
        """Memory of the network while it runs: about all that its convolutions write, once."""
        plan = self.configuration
        written = convolution_elements(plan.network, plan.patch_size_vox, self.outputs)
        logits = LOGITS_HELD * self.outputs * prod(plan.patch_box_vox)
        return 4 * inputs_at_once * (written + logits)

    def column_bytes(self, column: Column) -> int:
        """Memory of the sums of logits, and of what is being resampled."""
        y, x = self.source(column)
        plane = (y[1] - y[0]) * (x[1] - x[0])
        sums = self.outputs * self.configuration.patch_box_vox[0] * plane
        row = self.outputs * max(plane, prod(high - low for low, high in (column.y, column.x)))
        return 4 * sums + BLOCKS_HELD * max(BYTES_AT_ONCE, 4 * row)

    def patches(self, column: Column) -> int:
        """How many patches are run for a column."""
        patch = self.configuration.patch_box_vox
        step = self.configuration.inference.step_fraction
        tiling = tile(self.placement.resampled_shape_vox, patch, step)
        count = len(tiling.starts[0])
        for axis, (low, high) in zip((1, 2), self.source(column), strict=True):
            before = tiling.padding[axis][0]
            span = (low + before, high + before)
            count *= len(reaching(tiling.starts[axis], patch[axis], span))
        return count

    def source(self, column: Column) -> tuple[Span, Span]:
        """A column's ranges of y and x on the plan's grid."""
        matrices = interpolation_matrices(self.placement, self.configuration.resampling)
        y, x = (
            Interpolation.of(matrix, span).source
            for matrix, span in zip(matrices[1:], (column.y, column.x), strict=True)
        )
        return y, x


def columns_that_fit(
    footprints: Sequence[Footprint], available_bytes: float
) -> tuple[tuple[Column, ...], bool]:
    """Columns that cover the crop with the least work, and whether they fit.

    Where none do, those that take the least memory. The crop is that of every footprint.
    """
    _, height, width = footprints[0].placement.crop.shape
    ways = []
    for cuts in product(CUTS, CUTS):
        columns = _cut(height, width, cuts)
        needed = max(sum(f.column_bytes(column) for f in footprints) for column in columns)
        if needed <= available_bytes and cuts == (1, 1):
            return columns, True
        work = sum(f.patches(column) for f in footprints for column in columns)
        ways.append((needed > available_bytes, work, needed, columns))
    fitting = [way for way in ways if not way[0]]
    if fitting:
        return min(fitting, key=lambda way: way[1:3])[3], True
    return min(ways, key=lambda way: way[2])[3], False


def rows_at_once(outputs: int, column: Column) -> int:
    """How many rows of a column's logits are resampled together."""
    plane = (column.y[1] - column.y[0]) * (column.x[1] - column.x[0])
    return max(1, BYTES_AT_ONCE // (4 * outputs * plane))


def _cut(height: int, width: int, cuts: tuple[int, int]) -> tuple[Column, ...]:
    ys, xs = (
        _spans(size, min(count, size)) for size, count in zip((height, width), cuts, strict=True)
    )
    return tuple(Column(y, x) for y, x in product(ys, xs))


def _spans(size: int, count: int) -> list[Span]:
    edges = [round(index * size / count) for index in range(count + 1)]
    return list(pairwise(edges))
