"""Changes of intensity, in place on rows [row, z, y, x]: one channel of one sample is one row.

Each function takes one parameter per row, and changes only the rows whose parameter is not neutral;
it gives None where there are none.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augmentation.change import Change
from autoseg.preprocessing.resample import interpolation_matrix

TINY = 1e-7
BLUR_RADIUS_SIGMAS = 3

Rows = torch.Tensor  # [row, z, y, x]


def add_noise(image: torch.Tensor, drawn: Sequence[tuple[float, int]]) -> Change | None:
    """Gaussian noise for samples [batch, channel, z, y, x], given (std, seed) of each."""
    if not any(std > 0 for std, _ in drawn):
        return None

    def apply() -> None:
        for sample, (std, seed) in zip(image, drawn, strict=True):
            if std > 0:
                generator = torch.Generator(image.device).manual_seed(seed)
                noise = torch.randn(sample.shape, generator=generator, device=image.device)
                sample.add_(noise, alpha=std)

    return Change(apply)


def blur(rows: Rows, sigma_vox: NDArray[np.float64]) -> Change | None:
    """Gaussian blur with sigma [row, axis] in voxels; 0 leaves a row alone."""
    chosen = np.flatnonzero(sigma_vox.any(axis=1))
    return _separable(
        rows, chosen, range(3), lambda row, axis, n: _blur_matrix(sigma_vox[row, axis], n)
    )


def scale_brightness(rows: Rows, factor: NDArray[np.float64]) -> Change | None:
    """Multiply each row by its factor."""
    return _of_rows(rows, factor, lambda x, by: x * by)


def scale_contrast(rows: Rows, factor: NDArray[np.float64]) -> Change | None:
    """Scale each row about its mean, clipped to the range that it had."""

    def scaled(x: Rows, by: torch.Tensor) -> Rows:
        low, high = _range(x)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        return ((x - mean) * by + mean).clamp(low, high)

    return _of_rows(rows, factor, scaled)


def lower_resolution(rows: Rows, zoom: NDArray[np.float64], axes: Sequence[int]) -> Change | None:
    """Downsample rows by zoom <= 1 to the nearest voxels, and back up linearly."""
    chosen = np.flatnonzero(zoom != 1)
    return _separable(
        rows, chosen, axes, lambda row, axis, n: _zoom_matrix(round(zoom[row] * n), n)
    )


def apply_gamma(rows: Rows, gamma: NDArray[np.float64], invert: bool) -> Change | None:
    """Raise each row, rescaled to 0-1, to a power; mean and standard deviation stay.

    With `invert` dark and bright are swapped before, and back after.
    """

    def raised(x: Rows, power: torch.Tensor) -> Rows:
        x = -x if invert else x
        space = (1, 2, 3)
        mean, std = x.mean(space, keepdim=True), x.std(space, keepdim=True)
        low, high = _range(x)
        width = (high - low).clamp_min(TINY)
        x = ((x - low) / width).pow_(power) * width + low
        new_mean, new_std = x.mean(space, keepdim=True), x.std(space, keepdim=True)
        x = (x - new_mean) * (std / new_std.clamp_min(TINY)) + mean
        return -x if invert else x

    return _of_rows(rows, gamma, raised)


def _of_rows(
    rows: Rows, values: NDArray[np.float64], function: Callable[[Rows, torch.Tensor], Rows]
) -> Change | None:
    """Rows whose value is not 1 become what a function makes of them and their values."""
    chosen = np.flatnonzero(values != 1)
    if not len(chosen):
        return None

    def apply(chosen: torch.Tensor, values: torch.Tensor) -> None:
        changed = function(rows.index_select(0, chosen), values.view(-1, 1, 1, 1))
        rows.index_copy_(0, chosen, changed)

    return Change(apply, (chosen, values[chosen].astype(np.float32)))


def _separable(
    rows: Rows,
    chosen: NDArray[np.intp],
    axes: Sequence[int],
    matrix: Callable[[int, int, int], NDArray[np.float32]],
) -> Change | None:
    """Multiply chosen rows along each axis by a matrix of their own: matrix(row, axis, size)."""
    if not len(chosen):
        return None

    def apply(chosen: torch.Tensor, *weights: torch.Tensor) -> None:
        x = rows.index_select(0, chosen)  # [row, z, y, x]
        for axis, weight in zip(axes, weights, strict=True):  # [row, size, size]
            moved = x.movedim(1 + axis, 1)
            x = torch.bmm(weight, moved.reshape(*weight.shape[:2], -1)).view(moved.shape)
            x = x.movedim(1, 1 + axis)
        rows.index_copy_(0, chosen, x)

    matrices = (
        np.stack([matrix(int(row), axis, rows.shape[1 + axis]) for row in chosen]) for axis in axes
    )
    return Change(apply, (chosen, *matrices))


def _blur_matrix(sigma_vox: float, size: int) -> NDArray[np.float32]:
    """Gaussian weights [size, size] whose tails are reflected at the borders; rows sum to 1."""
    radius = min(size - 1, int(np.ceil(BLUR_RADIUS_SIGMAS * sigma_vox)))
    matrix = np.zeros((size, size))
    if sigma_vox <= 0 or size == 1:
        return np.eye(size, dtype=np.float32)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma_vox) ** 2)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        source = np.abs(np.arange(size) + offset)
        source = np.where(source >= size, 2 * (size - 1) - source, source)
        matrix[np.arange(size), source] += weight
    return matrix.astype(np.float32)


@lru_cache(maxsize=1024)
def _zoom_matrix(low_size: int, size: int) -> NDArray[np.float32]:
    low_size = max(1, low_size)
    up = interpolation_matrix(low_size, size, order=1)
    down = interpolation_matrix(size, low_size, order=0)
    product: NDArray[np.float32] = up @ down
    return product


def _range(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = torch.aminmax(rows.flatten(1), dim=1)
    return low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
