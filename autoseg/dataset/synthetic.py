"""Synthetic scans with known labels, from a seed: for the demo and for tests."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from autoseg.records import save_json

SHAPE_VOX = (48, 44, 16)
LABELS = {"background": 0, "organ": 1, "core": 2, "lesion": 3}


@dataclass(frozen=True, slots=True)
class SyntheticScan:
    """An image [x, y, z] with its labels, and the affine from indices to RAS mm."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine_ras_mm: NDArray[np.float64]


def make_scan(
    seed: int, shape_vox: tuple[int, int, int] = SHAPE_VOX, slice_mm: float = 3.0
) -> SyntheticScan:
    """One anisotropic scan: an ellipsoid organ, a core nested in it, and small bright lesions.

    A smooth bias field, noise and an intensity scale of its own make each scan differ. Voxels are
    1 mm in plane and `slice_mm` across.
    """
    rng = np.random.default_rng(seed)
    spacing_mm = np.array([1.0, 1.0, slice_mm])
    size_mm = np.array(shape_vox) * spacing_mm
    centre_mm = size_mm / 2 + rng.uniform(-3, 3, 3)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape_vox], indexing="ij"), axis=-1)
    position_mm = index * spacing_mm  # [x, y, z, 3]

    def inside(middle: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        distance = ((position_mm - middle) / radii) ** 2
        ball: NDArray[np.bool_] = distance.sum(axis=-1) < 1
        return ball

    radii_mm = np.array([16.0, 14.0, 16.0]) * rng.uniform(0.85, 1.1, 3)
    labels = np.zeros(shape_vox, dtype=np.uint8)
    organ = inside(centre_mm, radii_mm)
    labels[organ] = 1
    labels[inside(centre_mm + rng.uniform(-3, 3, 3), radii_mm * 0.5)] = 2
    for _ in range(rng.integers(2, 5)):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        lesion = inside(centre_mm + 0.75 * radii_mm * direction, rng.uniform(2.5, 4.5, 3))
        labels[lesion & organ] = 3

    contrast = np.array([20.0, 100.0, 160.0, 220.0])[labels]
    frequency = rng.uniform(0.5, 1.5, 3) / size_mm
    bias = 1 + 0.2 * np.sin((position_mm * frequency).sum(axis=-1) * 2 * np.pi + rng.uniform(0, 6))
    image = (contrast * bias + rng.normal(0, 12, shape_vox)) * rng.uniform(0.7, 1.4)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return SyntheticScan(image.astype(np.float32), labels, affine)


def write_dataset(
    folder: Path, case_count: int, shape_vox: tuple[int, int, int] = SHAPE_VOX
) -> None:
    """Write scans in nnU-Net's raw layout: imagesTr, labelsTr, dataset.json."""
    for index in range(case_count):
        scan = make_scan(index, shape_vox)
        write_scan(folder / "imagesTr" / f"case_{index:03d}_0000.nii.gz", scan.image, scan)
        write_scan(folder / "labelsTr" / f"case_{index:03d}.nii.gz", scan.labels, scan)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": case_count,
        "file_ending": ".nii.gz",
    }
    save_json(description, folder / "dataset.json")


def write_scan(path: Path, array: NDArray[np.generic], scan: SyntheticScan) -> None:
    """Write an array [x, y, z] as NIfTI on a scan's grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, scan.affine_ras_mm), path)
