"""Intensity normalisation, one channel at a time."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.planning.grid_plan import ChannelNormalization

SMALLEST_STD = 1e-8

Normalize = Callable[[NDArray[np.float32], NDArray[np.bool_], ChannelNormalization], None]


def normalize(
    image: NDArray[np.float32], mask: NDArray[np.bool_], plans: Sequence[ChannelNormalization]
) -> None:
    """Normalise [channel, z, y, x] in place; `mask` [z, y, x] is true inside the body."""
    for channel, plan in zip(image, plans, strict=True):
        NORMALIZATIONS[plan.kind](channel, mask, plan)


def _zscore(
    channel: NDArray[np.float32], mask: NDArray[np.bool_], plan: ChannelNormalization
) -> None:
    inside = channel[mask] if plan.masked else channel
    mean = inside.mean(dtype=np.float64)
    std = max(float(inside.std(dtype=np.float64)), SMALLEST_STD)
    if plan.masked:
        channel[mask] = (inside - np.float32(mean)) / np.float32(std)
    else:
        channel -= np.float32(mean)
        channel /= np.float32(std)


def _ct(channel: NDArray[np.float32], mask: NDArray[np.bool_], plan: ChannelNormalization) -> None:
    stats = plan.statistics
    np.clip(channel, stats.percentile_00_5, stats.percentile_99_5, out=channel)
    channel -= np.float32(stats.mean)
    channel /= np.float32(max(stats.std, SMALLEST_STD))


def _rescale_0_1(
    channel: NDArray[np.float32], mask: NDArray[np.bool_], plan: ChannelNormalization
) -> None:
    channel -= channel.min()
    channel /= max(float(channel.max()), SMALLEST_STD)


def _rgb_0_1(
    channel: NDArray[np.float32], mask: NDArray[np.bool_], plan: ChannelNormalization
) -> None:
    if channel.min() < 0 or channel.max() > 255:
        raise AutosegError(
            f"Channel {plan.channel} is declared as 8-bit colour (rgb_to_0_1), but its values "
            f"reach from {channel.min():.4g} to {channel.max():.4g}. Rename the channel."
        )
    channel /= np.float32(255)


def _none(
    channel: NDArray[np.float32], mask: NDArray[np.bool_], plan: ChannelNormalization
) -> None:
    """Intensities stay as they are."""


NORMALIZATIONS: dict[str, Normalize] = {
    "ct": _ct,
    "zscore": _zscore,
    "rescale_0_1": _rescale_0_1,
    "rgb_0_1": _rgb_0_1,
    "none": _none,
}
