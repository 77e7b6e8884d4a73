"""Changes of intensity, in place on rows [row, z, y, x]: one channel of one sample is one row.

Each function takes one parameter per row, and touches only the rows whose parameter is not neutral.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.preprocessing.resample import interpolation_matrix

TINY = 1e-7
BLUR_RADIUS_SIGMAS = 3


def add_noise(image: torch.Tensor, drawn: Sequence[tuple[float, int]]) -> None:
    """Add Gaussian noise to samples [batch, channel, z, y, x], given (std, seed) of each."""
    for sample, (std, seed) in zip(image, drawn, strict=True):
        if std > 0:
            generator = torch.Generator(image.device).manual_seed(seed)
            noise = torch.randn(sample.shape, generator=generator, device=image.device)
            sample.add_(noise, alpha=std)


def blur(rows: torch.Tensor, sigma_vox: NDArray[np.float64]) -> None:
    """Gaussian blur with sigma [row, axis] in voxels; 0 leaves a row alone."""
    chosen = np.flatnonzero(sigma_vox.any(axis=1))
    _apply_separable(
        rows, chosen, range(3), lambda row, axis, n: _blur_matrix(sigma_vox[row, axis], n)
    )


def scale_brightness(rows: torch.Tensor, factor: NDArray[np.float64]) -> None:
    """Multiply each row by its factor."""
    chosen = np.flatnonzero(factor != 1)
    if len(chosen):
        rows[chosen] *= _column(factor[chosen], rows)


def scale_contrast(rows: torch.Tensor, factor: NDArray[np.float64]) -> None:
    """Scale each row about its mean, clipped to the range that it had."""
    chosen = np.flatnonzero(factor != 1)
    if len(chosen):
        x = rows[chosen]
        low, high = _range(x)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        stretched = (x - mean) * _column(factor[chosen], rows) + mean
        rows[chosen] = stretched.clamp(low, high)


def lower_resolution(rows: torch.Tensor, zoom: NDArray[np.float64], axes: Sequence[int]) -> None:
    """Downsample rows by zoom <= 1 to the nearest voxels, and back up linearly."""
    chosen = np.flatnonzero(zoom != 1)
    _apply_separable(rows, chosen, axes, lambda row, axis, n: _zoom_matrix(round(zoom[row] * n), n))


def apply_gamma(rows: torch.Tensor, gamma: NDArray[np.float64], invert: bool) -> None:
    """Raise each row, rescaled to 0-1, to a power; mean and standard deviation stay.

    With `invert` dark and bright are swapped before, and back after.
    """
    chosen = np.flatnonzero(gamma != 1)
    if not len(chosen):
        return
    x = -rows[chosen] if invert else rows[chosen]
    space = (1, 2, 3)
    mean, std = x.mean(space, keepdim=True), x.std(space, keepdim=True)
    low, high = _range(x)
    width = (high - low).clamp_min(TINY)
    x = ((x - low) / width).pow_(_column(gamma[chosen], rows)) * width + low
    new_mean, new_std = x.mean(space, keepdim=True), x.std(space, keepdim=True)
    x = (x - new_mean) * (std / new_std.clamp_min(TINY)) + mean
    rows[chosen] = -x if invert else x


def _apply_separable(
    rows: torch.Tensor,
    chosen: NDArray[np.intp],
    axes: Sequence[int],
    matrix: Callable[[int, int, int], NDArray[np.float32]],
) -> None:
    """Multiply chosen rows along each axis by a matrix of their own: matrix(row, axis, size)."""
    if not len(chosen):
        return
    x = rows[chosen]  # [row, z, y, x]
    for axis in axes:
        size = x.shape[1 + axis]
        matrices = np.stack([matrix(int(row), axis, size) for row in chosen])
        weights = torch.from_numpy(matrices).to(x.device)  # [row, size, size]
        moved = x.movedim(1 + axis, 1)
        x = torch.bmm(weights, moved.reshape(len(chosen), size, -1)).view(moved.shape)
        x = x.movedim(1, 1 + axis)
    rows[chosen] = x


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


def _column(values: NDArray[np.float64], rows: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(rows.device, rows.dtype).view(-1, 1, 1, 1)


def _range(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = torch.aminmax(rows.flatten(1), dim=1)
    return low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
