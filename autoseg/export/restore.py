"""From logits on a plan's grid to labels on the source's grid, slab by slab."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.geometry import Placement
from autoseg.planning.plan import ResamplingPlan
from autoseg.preprocessing.resample import interpolation_matrix, separate_axis

BYTES_AT_ONCE = 2**28  # of logits at the source's resolution


Decide = Callable[[torch.Tensor], torch.Tensor]  # logits [output, ...] to indices [...], uint8


def decide_classes(logits: torch.Tensor) -> torch.Tensor:
    """The index of the highest logit."""
    return logits.max(dim=0).indices.to(torch.uint8)


def decide_regions(logits: torch.Tensor) -> torch.Tensor:
    """0, or 1 + the index of the last region whose probability exceeds one half."""
    painted = torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    for index, region in enumerate(logits):
        painted[region > 0] = index + 1
    return painted


def restore_classes(
    slabs: Iterable[torch.Tensor],
    placement: Placement,
    plan: ResamplingPlan,
    decide: Decide = decide_classes,
) -> NDArray[np.uint8]:
    """Resample logits to the source's grid, decide each voxel's class, and undo crop and order.

    `slabs` are [class, rows, y, x] along the first axis of the plan's grid, in order. The result is
    [z, y, x] class indices in the source's axis order, 0 outside the crop. The labels are those of
    resampling all logits and then deciding, but only a few rows are held.
    """
    cropped = np.zeros(placement.crop.shape, dtype=np.uint8)
    row = 0
    for logits in _rows_on_source_grid(slabs, placement, plan):
        classes = decide(logits).cpu().numpy()
        cropped[row : row + len(classes)] = classes
        row += len(classes)
    assert row == len(cropped), (row, cropped.shape)
    in_plan_axes = [placement.source_shape_vox[axis] for axis in placement.axis_order]
    whole = np.zeros(in_plan_axes, dtype=np.uint8)
    whole[placement.crop.slices] = cropped
    return np.ascontiguousarray(placement.to_source_axes(whole))


@dataclass(frozen=True, slots=True)
class Interpolation:
    """Matrices [out, in] of each axis; None where the size stays."""

    matrices: tuple[torch.Tensor | None, ...]

    def source_rows(self, first: int, last: int) -> tuple[int, int]:
        """The half-open range of input rows that output rows first..last-1 are made from."""
        matrix = self.matrices[0]
        if matrix is None:
            return first, last
        used = torch.nonzero(matrix[first:last].any(dim=0)).flatten()
        return int(used[0]), int(used[-1]) + 1

    def apply(self, logits: torch.Tensor, rows: tuple[int, int], first_row: int) -> torch.Tensor:
        """Output rows [class, rows, y, x] from input rows that start at `first_row`."""
        z, y, x = self.matrices
        if y is not None:
            logits = torch.matmul(y, logits)
        if x is not None:
            logits = torch.matmul(logits, x.T)
        if z is not None:
            part = z[rows[0] : rows[1], first_row : first_row + logits.shape[1]]
            logits = torch.einsum("oi,ciyx->coyx", part, logits)
        return logits


def _rows_on_source_grid(
    slabs: Iterable[torch.Tensor], placement: Placement, plan: ResamplingPlan
) -> Iterator[torch.Tensor]:
    """Logits [output, rows, y, x] at the source's resolution, a few rows at a time, in order."""
    interpolation: Interpolation | None = None
    held: torch.Tensor | None = None  # input rows that are still needed
    first_held = 0
    done = 0
    out_rows, height, width = placement.crop.shape
    for slab in slabs:
        if interpolation is None:
            interpolation = _interpolation(placement, plan, slab.device)
        held = slab if held is None else torch.cat((held, slab), dim=1)
        rows_at_once = max(1, BYTES_AT_ONCE // (4 * slab.shape[0] * height * width))
        while done < out_rows:
            last = min(out_rows, done + rows_at_once)
            low, high = interpolation.source_rows(done, last)
            while high > first_held + held.shape[1] and last > done + 1:
                last -= 1
                low, high = interpolation.source_rows(done, last)
            if high > first_held + held.shape[1]:
                break  # the next slab has the rows that are missing
            part = held[:, low - first_held : high - first_held]
            yield interpolation.apply(part, (done, last), low)
            done = last
        if done < out_rows:
            low, _ = interpolation.source_rows(done, done + 1)
            drop = min(low - first_held, held.shape[1])
            held, first_held = held[:, drop:], first_held + drop


def _interpolation(
    placement: Placement, plan: ResamplingPlan, device: torch.device
) -> Interpolation:
    separate = separate_axis(
        placement.target_spacing_mm, placement.source_spacing_mm, plan.separate_axis_ratio
    )
    matrices = []
    for axis, (size_in, size_out) in enumerate(
        zip(placement.resampled_shape_vox, placement.crop.shape, strict=True)
    ):
        order = 0 if axis == separate else plan.logits_order
        matrix = interpolation_matrix(size_in, size_out, order) if size_in != size_out else None
        matrices.append(None if matrix is None else torch.from_numpy(matrix).to(device))
    return Interpolation(tuple(matrices))
