"""Volumes of one space put on another's grid."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Grid, same_space
from autoseg.images.raw import Oddity
from autoseg.images.volume import Volume

LEAST_COVERED = 0.5  # of a grid; a volume that covers less shows something else


def onto_grid(volume: Volume, grid: Grid, nearest: bool) -> NDArray[Any]:
    """Resample [channel, z, y, x] to another grid of the same space, of any affine.

    Linear, or to the nearest voxel; beyond its border an image has its smallest value, and a label
    map 0.
    """
    import SimpleITK as sitk  # noqa: N813  # 0.7 s, and seldom needed

    to_source = np.linalg.inv(volume.grid.affine_ras_mm) @ grid.affine_ras_mm  # of file indices
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape_vox[::-1])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    channels = []
    for channel in volume.array:
        resampler.SetDefaultPixelValue(0.0 if nearest else float(channel.min()))
        resampled = resampler.Execute(sitk.GetImageFromArray(channel))
        channels.append(sitk.GetArrayFromImage(resampled))
    return np.stack(channels)


def share_covered(volume: Volume, grid: Grid) -> float:
    """How much of a grid a volume covers."""
    everywhere = Volume(np.ones_like(volume.array[:1], np.uint8), volume.grid, None)
    return float(onto_grid(everywhere, grid, nearest=True).mean())


def resampled_like(volume: Volume, reference: Volume) -> Volume:
    """An image on another's grid, which it is taken to be registered to, and a word of that.

    As it is where it already lies there, or covers too little of it: then it is told as lying on
    another grid.
    """
    if same_space(volume.grid, reference.grid):
        return volume
    covered = share_covered(volume, reference.grid)
    if covered < LEAST_COVERED:
        return volume
    what = (
        f"a channel was resampled linearly to the first one's grid; it covers {covered:.0%} of it, "
        "and the rest has its smallest value."
    )
    oddity = Oddity("resampled_channel", what, "Register the series, if the patient moved between.")
    return replace(
        volume,
        array=onto_grid(volume, reference.grid, nearest=False),
        grid=reference.grid,
        nifti_header=reference.nifti_header,
        oddities=(*volume.oddities, oddity),
        sources=reference.sources,
    )
