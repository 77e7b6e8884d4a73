"""Made-up volumes of ellipsoids that touch, blurred and noisy, with a number for each.

    python -m benchmarks.ellipsoids FOLDER

writes 40 volumes of 48 x 96 x 96 voxels (2 x 1 x 1 mm), of which a fold holds out 8, as `images/`
and `instances/`. All ellipsoids are equally bright: only shape tells apart those that touch.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

VOLUMES = 40
SHAPE_VOX = (48, 96, 96)
SPACING_MM = (2.0, 1.0, 1.0)
COUNT = 40  # ellipsoids that are tried
SEMI_AXES_MM = (6.0, 13.0)
BLUR_MM, NOISE = 1.5, 0.5  # of a brightness of 1
LEAST_SHARE = 0.75  # of an ellipsoid that others must leave

Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Its centre, and the matrix that makes it a ball of radius 1, in mm along (z, y, x)."""

    centre_mm: Places
    to_ball: Places

    def holds(self, places_mm: Places) -> NDArray[np.bool_]:
        inside = (places_mm - self.centre_mm) @ self.to_ball.T  # [z, y, x, 3]
        held: NDArray[np.bool_] = (inside**2).sum(axis=-1) <= 1
        return held


def random_ellipsoid(rng: np.random.Generator, beside: Ellipsoid | None) -> Ellipsoid:
    """One anywhere, or so that it touches another: their surfaces meet along a random way."""
    radii_mm = rng.uniform(*SEMI_AXES_MM, 3)
    to_ball = np.diag(1 / radii_mm) @ Rotation.random(random_state=rng).as_matrix()
    if beside is None:
        return Ellipsoid(rng.uniform(0, np.multiply(SHAPE_VOX, SPACING_MM)), to_ball)
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    reach_mm = sum(1 / np.linalg.norm(matrix @ way) for matrix in (to_ball, beside.to_ball))
    return Ellipsoid(beside.centre_mm + 0.9 * reach_mm * way, to_ball)


def make_volume(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A noisy image, and the number of the ellipsoid at each voxel: both [z, y, x]."""
    places_mm = np.moveaxis(np.indices(SHAPE_VOX, float), 0, -1) * SPACING_MM
    numbers = np.zeros(SHAPE_VOX, np.uint8)
    kept: list[Ellipsoid] = []
    for _ in range(COUNT):
        alone = not kept or rng.random() < 0.25
        one = random_ellipsoid(rng, None if alone else kept[rng.integers(len(kept))])
        held = one.holds(places_mm)
        free = held & (numbers == 0)
        if free.sum() < max(1, LEAST_SHARE * held.sum()):
            continue
        pieces, count = ndimage.label(free, np.ones((3, 3, 3)))
        largest = 1 + np.argmax(np.bincount(pieces.ravel())[1:]) if count else 0
        kept.append(one)
        numbers[pieces == largest] = len(kept)
    blurred = ndimage.gaussian_filter((numbers > 0).astype(float), BLUR_MM / np.array(SPACING_MM))
    image = blurred + rng.normal(0, NOISE, SHAPE_VOX)
    return image.astype(np.float32), numbers


def write(folder: Path) -> None:
    affine = np.diag([*SPACING_MM[::-1], 1.0])
    for index in range(VOLUMES):
        arrays: tuple[NDArray[Any], ...] = make_volume(np.random.default_rng(index))
        for name, array in zip(("images", "instances"), arrays, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            file = folder / name / f"volume_{index:03d}.nii.gz"
            nib.save(nib.Nifti1Image(array.T, affine), file)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
