"""Cells of grids over a patch, in which objects are looked for: what lies in them, and how far
voxels are from them."""

from collections.abc import Sequence

import torch


def mean_in_cells(x: torch.Tensor, cells: Sequence[int]) -> torch.Tensor:
    """Means of maps [batch, feature, *space] over the cells of a grid of the same extent [batch,
    cell, feature]; voxels count by how much of them lies in a cell."""
    for axis, count in enumerate(cells):
        n = x.shape[2 + axis]
        ends = torch.arange(n + 1, device=x.device) * (count / n)  # of voxels, in cells
        cell = torch.arange(count, device=x.device)[:, None]
        shared = (ends[1:].clamp(max=cell + 1) - ends[:-1].clamp(min=cell)).clamp_min(0)
        weights = (shared / shared.sum(1, keepdim=True)).to(x)  # [cell, voxel]
        x = (x.movedim(2 + axis, -1) @ weights.T).movedim(-1, 2 + axis)
    return x.flatten(2).transpose(1, 2)


def middles_of(
    grids: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of grids have their middles, in cells, and how many cells their grids have,
    both along each axis [axis, cell]: grid after grid, the last axis of each fastest."""
    middles, counts = list[torch.Tensor](), list[torch.Tensor]()
    for grid in grids:
        along = [torch.arange(count, device=device) + 0.5 for count in grid]
        middles.append(torch.stack(torch.meshgrid(along, indexing="ij")).flatten(1))
        shape = middles[-1].shape[1:]
        counts.append(torch.stack([torch.full(shape, float(n), device=device) for n in grid]))
    return torch.cat(middles, dim=1), torch.cat(counts, dim=1)


def squared_distances(
    middles: torch.Tensor, counts: torch.Tensor, size: Sequence[int]
) -> torch.Tensor:
    """From middles of cells to each voxel of a map over the same patch, in cells along each axis
    [..., voxel], the last axis fastest; `middles` and `counts` [axis, ...] as `middles_of` has
    them, of any of its cells."""
    away = torch.zeros((), device=middles.device)
    for axis, n in enumerate(size):
        share = (torch.arange(n, device=middles.device) + 0.5) / n
        along = (middles[axis, ..., None] - share * counts[axis, ..., None]) ** 2
        shape = [n if other == axis else 1 for other in range(len(size))]
        away = away + along.view(*middles.shape[1:], *shape)
    return away.flatten(middles.ndim - 1)
