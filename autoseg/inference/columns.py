"""How to cut a scan into columns whose logits fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Placement
from autoseg.inference.merging import BYTES_AT_ONCE
from autoseg.inference.restore import Column, Interpolation, Span
from autoseg.inference.sliding_window import reaching, tile
from autoseg.planning.cost import NetworkCost
from autoseg.planning.plan import Configuration

CUTS = (1, 2, 3, 4, 6, 8, 12, 16)  # along y, and along x
BLOCKS_HELD = 8  # finished logits before, while and after they are resampled
LOGITS_HELD = 3  # a patch's logits: of a mirror image, their sum, and on their way to the sums
NOT_WORTH_BYTES = 2**27  # what more columns must save where memory does not suffice anyway
LOOKS_HELD = 3  # what queries find: of each look, of all together, and on the way to objects
DISAGREEMENT_HELD = 4  # and more of them, of all together, where their decisions are compared


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a scan takes that was put on a configuration's grid.

    `channels` go into the network, which has its `cost`, and come out of it as `outputs`. With
    `compared_models` the decisions of so many are held beside each other. Of a patch and of each of
    its mirror images all networks' queries give up to `found` numbers, which are no outputs.
    """

    configuration: Configuration
    cost: NetworkCost
    placement: Placement
    channels: int
    outputs: int
    compared_models: int
    matrices: Sequence[NDArray[np.float32] | None]  # back to the source, of each axis
    found: int = 0

    def network_bytes(self, inputs_at_once: int) -> int:
        """Memory of the network while it runs: about all that its convolutions write, once."""
        held = LOGITS_HELD
        if self.compared_models:
            held += self.compared_models + DISAGREEMENT_HELD
        voxels = prod(self.configuration.model.patch_box_vox)
        of_input = self.cost.elements + (held * self.outputs + 2 * self.channels) * voxels
        mirrored = len(self.configuration.inference.mirror_axes)
        looks = max(inputs_at_once, 1 << mirrored)  # all mirror images of a patch at least
        return 4 * (inputs_at_once * of_input + LOOKS_HELD * looks * self.found)

    def column_bytes(self, column: Column) -> int:
        """Memory of the sums of logits, and of what is being resampled."""
        y, x = self.source(column)
        plane = (y[1] - y[0]) * (x[1] - x[0])
        sums = self.outputs * self.configuration.model.patch_box_vox[0] * plane
        row = self.row_bytes(column)
        everything = self.placement.crop.shape[0] * row
        return 4 * sums + BLOCKS_HELD * max(row, min(BYTES_AT_ONCE, everything))

    def row_bytes(self, column: Column) -> int:
        """Memory of one row of the source, at its largest while it is resampled."""
        plane = prod(
            max(high - low, source[1] - source[0])
            for (low, high), source in zip((column.y, column.x), self.source(column), strict=True)
        )
        rows = ceil(self.placement.resampled_shape_vox[0] / self.placement.crop.shape[0])
        return 4 * self.outputs * plane * rows

    def patches(self, column: Column) -> int:
        """How many patches are run for a column."""
        patch = self.configuration.model.patch_box_vox
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
        y, x = (
            Interpolation.of(matrix, span).source
            for matrix, span in zip(self.matrices[1:], (column.y, column.x), strict=True)
        )
        return y, x


def columns_that_fit(
    footprints: Sequence[Footprint], available_bytes: float
) -> tuple[tuple[Column, ...], bool]:
    """Columns that cover the crop with the least work, and whether they fit.

    Where none do, those that take about the least memory. The crop is that of every footprint.
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
    least = min(way[2] for way in ways)
    sparing = [way for way in ways if way[2] <= least + NOT_WORTH_BYTES]
    return min(sparing, key=lambda way: way[1:3])[3], False


def rows_at_once(footprints: Sequence[Footprint], column: Column) -> int:
    """How many rows of a column's logits are resampled together."""
    return max(1, BYTES_AT_ONCE // sum(footprint.row_bytes(column) for footprint in footprints))


def _cut(height: int, width: int, cuts: tuple[int, int]) -> tuple[Column, ...]:
    ys, xs = (
        _spans(size, min(count, size)) for size, count in zip((height, width), cuts, strict=True)
    )
    return tuple(Column(y, x) for y, x in product(ys, xs))


def _spans(size: int, count: int) -> list[Span]:
    edges = [round(index * size / count) for index in range(count + 1)]
    return list(pairwise(edges))
