"""Image files made in code."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import tifffile
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

ROTATION = euler2mat(0.2, -0.1, 0.3)
OBLIQUE = from_matvec(ROTATION @ np.diag([0.7, 0.8, -2.5]), [10, -20, 30])
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)
SCAN: NDArray[np.int16] = RNG.integers(-1000, 3000, (4, 5, 6)).astype(np.int16)  # [z, y, x]
COLOURS: NDArray[np.uint8] = RNG.integers(0, 256, (5, 6, 3)).astype(np.uint8)  # [y, x, colour]
BLOCK: NDArray[np.int16] = RNG.integers(0, 1000, (20, 30, 40)).astype(np.int16)


def itk_image(array: NDArray[Any], affine: NDArray[np.float64] = OBLIQUE) -> sitk.Image:
    """A SimpleITK image [z, y, x] with the place that an affine to RAS mm gives it."""
    image = sitk.GetImageFromArray(array)
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def itk_affine_ras(path: Path) -> NDArray[np.float64]:
    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine: NDArray[np.float64] = from_matvec(direction * image.GetSpacing(), image.GetOrigin())
    return LPS_TO_RAS @ affine


def save_nifti(path: Path, array: NDArray[Any], affine: Any = OBLIQUE, **fields: Any) -> Path:
    """Write [x, y, z, ...] as NIfTI-1, then set `fields` in its header."""
    nib.save(nib.Nifti1Image(array, affine), path)
    if fields:
        content = path.read_bytes()
        header = nib.Nifti1Header(content[:348])
        for name, value in fields.items():
            header[name] = value
        path.write_bytes(header.binaryblock + content[348:])
    return path


def save_tiff(path: Path, array: NDArray[Any], **options: Any) -> Path:
    if array.dtype != bool and not {"imagej", "ome"} & options.keys():
        options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, array, **options)
    return path


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def damage(path: Path, at: float = 0.5) -> Path:
    """Turn one byte over, at a fraction of the file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x55
    path.write_bytes(content)
    return path
