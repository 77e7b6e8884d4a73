"""Scans spoilt by rule, to see how masks fail: on scans like those of training they hardly do.

Each shift is a row of SHIFTS: a function of an image [channel, z, y, x] and random numbers, which
sets its strength between hardly visible and severe. Strengths are in terms of the scan itself, so
that they mean the same for every modality.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.floating[Any]]
Shift = Callable[[Image, np.random.Generator], Image]


def noise(image: Image, rng: np.random.Generator) -> Image:
    """Gaussian noise of 0.2 to 1.2 standard deviations of a channel."""
    sigma = rng.uniform(0.2, 1.2) * image.std(axis=(1, 2, 3), keepdims=True)
    noisy: Image = image + sigma * rng.standard_normal(image.shape)
    return noisy


def blur(image: Image, rng: np.random.Generator) -> Image:
    """A Gaussian of 0.5 to 2.5 voxels in the plane."""
    sigma_vox = rng.uniform(0.5, 2.5)
    blurred: Image = ndimage.gaussian_filter(image, (0, 0, sigma_vox, sigma_vox))
    return blurred


def contrast(image: Image, rng: np.random.Generator) -> Image:
    """Intensities between a channel's extremes to the power of 1/2.5 to 2.5."""
    low, high = _range(image)
    share = (image - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    gamma = 2.5 ** rng.uniform(-1, 1)
    curved: Image = low + (high - low) * share**gamma
    return curved


def missing_slices(image: Image, rng: np.random.Generator) -> Image:
    """A tenth to a half of all slices, here and there, without signal."""
    low, _ = _range(image)
    share = rng.uniform(0.1, 0.5)
    lost = rng.random((image.shape[1], 1, 1)) < share
    return np.where(lost, low, image)


SHIFTS: dict[str, Shift] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "missing_slices": missing_slices,
}


def shifted(image: Image, name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """An image spoilt by the shift of a name."""
    return np.ascontiguousarray(SHIFTS[name](image, rng), dtype=np.float32)


def _range(image: Image) -> tuple[Image, Image]:
    """The least and the largest value of each channel [channel, 1, 1, 1]."""
    return image.min(axis=(1, 2, 3), keepdims=True), image.max(axis=(1, 2, 3), keepdims=True)
