"""Covers: cells."""

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional

from autoseg.networks.cells import mean_in_cells, middles_of, squared_distances


def test_distances_are_those_from_the_middles_of_cells_of_each_grid() -> None:
    grids, size = [(2, 1, 3), (1, 4, 2)], (4, 5, 6)
    found = squared_distances(*middles_of(grids, torch.device("cpu")), size)
    assert found.shape == (6 + 8, 4 * 5 * 6)
    for grid, rows in zip(grids, (found[:6], found[6:]), strict=True):
        middles = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in grid], indexing="ij"), -1)
        along = [(np.arange(n) + 0.5) * c / n for n, c in zip(size, grid, strict=True)]
        places = np.stack(np.meshgrid(*along, indexing="ij"), -1)
        expected = cdist(middles.reshape(-1, 3), places.reshape(-1, 3), "sqeuclidean")
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_contents_of_cells_are_means_over_them() -> None:
    x = torch.randn(2, 3, 4, 6)
    found = mean_in_cells(x, (2, 3)).transpose(1, 2).view(2, 3, 2, 3)
    torch.testing.assert_close(found, functional.avg_pool2d(x, 2))
    torch.testing.assert_close(mean_in_cells(x, (4, 6)).transpose(1, 2).view_as(x), x)
    uneven = mean_in_cells(x[..., :1, :3], (1, 2))[0, :, 0]  # cells of one and a half voxels
    row = x[0, 0, 0, :3]
    expected = torch.stack((2 * row[0] + row[1], row[1] + 2 * row[2])) / 3
    torch.testing.assert_close(uneven, expected)
