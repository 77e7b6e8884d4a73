"""Volumes from arrays and SimpleITK images, and back, for programs that hold scans in memory."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Spacing3
from autoseg.images.itk import LPS_TO_RAS, affine_ras_mm, voxels_of
from autoseg.images.raw import nifti_header_of, place
from autoseg.images.volume import Volume

IN_MEMORY = Path("scan")  # what messages call it


def volume_of_array(
    array: NDArray[Any],
    *,
    spacing_mm: Spacing3 | None = None,
    affine_ras_mm: NDArray[np.float64] | None = None,
) -> Volume:
    """A scan [z, y, x] or [channel, z, y, x] with its spacing along (z, y, x), or its affine.

    The affine [4, 4] takes indices (x, y, z) to RAS mm, as in NIfTI; a spacing alone means axes
    that grow towards superior, anterior and right. Raises AutosegError for other shapes, NaN or
    infinity, and when there is not exactly one of the two.
    """
    if array.ndim not in (3, 4):
        raise AutosegError(
            f"a scan must be [z, y, x] or [channel, z, y, x], but this array has {array.ndim} axes."
        )
    if (spacing_mm is None) == (affine_ras_mm is None):
        raise AutosegError("give either the scan's spacing_mm or its affine_ras_mm.")
    if array.size == 0:
        raise AutosegError(f"a scan of {' x '.join(map(str, array.shape))} has no voxels.")
    if spacing_mm is not None and min(spacing_mm) <= 0:
        raise AutosegError(f"spacing_mm is {spacing_mm}, but must be above 0 along every axis.")
    if affine_ras_mm is None:
        affine_ras_mm = np.diag([*reversed(spacing_mm or ()), 1.0])
    return _volume(array if array.ndim == 4 else array[None], np.asarray(affine_ras_mm, float))


def volume_of_sitk(image: Any) -> Volume:
    """A scan from a SimpleITK image; components, or the fourth axis, are channels."""
    return _volume(voxels_of(image), affine_ras_mm(image))


def sitk_of_volume(volume: Volume) -> Any:
    """A SimpleITK image of a mask or map [z, y, x]. Raises AutosegError for a sheared grid."""
    import SimpleITK as sitk  # noqa: N813

    affine = LPS_TO_RAS @ volume.grid.affine_ras_mm
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise AutosegError("the scan's grid is sheared, which SimpleITK's images cannot say.")
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _volume(array: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    image = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(image).all():
        raise AutosegError("the scan contains NaN or infinite voxels. Replace them.")
    return Volume(image, place(IN_MEMORY, image, affine), nifti_header_of(affine))
