"""Pairs of label maps that metrics are compared on: real masks, and the same moved."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluation.mask_pair import MapPair
from autoseg.evaluation.saved_probabilities import SavedProbabilities
from autoseg.images.volume import read_labels

EVERY = 9  # of pairs, whose prediction or reference is emptied
SHIFT_VOX = (1, 2, 1)
LESION_SCANS = 4


@dataclass(slots=True)
class Waves(SavedProbabilities):
    """Some smooth map [z, y, x], by which predicted objects are more or less certain."""

    values: NDArray[np.float32] = field(kw_only=True)

    def of(self, name: str) -> NDArray[np.float32]:
        return self.values


@dataclass(frozen=True, slots=True)
class Scan:
    """Two label maps, and the classes to compare."""

    name: str  # of the data set, a hyphen, and the case
    maps: MapPair
    classes: tuple[int, ...]


def scans(shared: Path) -> Iterator[Scan]:
    """Of real masks, of made lesions, and of 25 organs in 512 x 512 x 300 voxels."""
    for path in sorted((shared / "hippocampus" / "labelsTr").glob("*.nii.gz"))[::4]:
        yield from_file(f"hippocampus-{path.name.split('.')[0]}", path)
    for path in sorted((shared / "sarcoma").glob("*/CT_mask.nii.gz")):
        yield from_file(f"sarcoma-{path.parent.name}", path)
        yield from_file(f"sarcoma_slices-{path.parent.name}", path)
    for path in sorted((shared / "nuclei" / "instances").iterdir())[::8]:
        yield from_file(f"nuclei-{path.stem}", path)
    yield from_file("lung_ct-P113", shared / "lung_ct" / "4DLung_P113.nii.gz")
    yield from (made_lesions(seed) for seed in range(LESION_SCANS))
    organs = made_organs()
    maps = MapPair(moved(organs), organs, None, (1.5, 0.8, 0.8), probabilities=waves(organs.shape))
    yield Scan("organs-made", maps, tuple(range(1, 26)))


def from_file(name: str, path: Path) -> Scan:
    volume = read_labels(path)
    reference = volume.array.astype(np.uint16)
    if name.startswith("sarcoma_slices"):
        reference = reference[[np.argmax(reference.sum(axis=(1, 2)))]]
    prediction: NDArray[Any] = moved(reference)
    predicted_ids = reference_ids = None
    if name.startswith("nuclei"):  # each of its objects has a number of its own
        predicted_ids, reference_ids = prediction, reference
        prediction, reference = ((ids > 0).astype(np.uint16) for ids in (prediction, reference))
    classes = tuple(int(value) for value in np.unique(reference) if value)
    number = sum(name.encode())  # some number that stays the same
    if number % EVERY == 0:
        prediction = np.where(prediction == classes[0], 0, prediction)
    elif number % EVERY == 1:
        reference = np.where(reference == classes[-1], 0, reference)
    spacing = volume.grid.spacing_mm if volume.is_placed else (1.0, 1.0, 1.0)
    maps = MapPair(
        prediction,
        reference,
        None,
        spacing,
        predicted_ids=predicted_ids,
        reference_ids=reference_ids,
        probabilities=waves(reference.shape),
    )
    return Scan(name, maps, classes)


def waves(shape_vox: tuple[int, ...]) -> Waves:
    z, y, x = np.ogrid[tuple(slice(0, size) for size in shape_vox)]
    phases = (0.37 * z + 0.11 * y + 0.23 * x).astype(np.float32)
    return Waves(Path(), {}, values=np.float32(0.5) + np.float32(0.4) * np.sin(phases))


def moved(reference: NDArray[Any]) -> NDArray[Any]:
    """The same masks some voxels further; those of odd values are eroded."""
    single = reference.shape[0] == 1
    steps = [0 if single and axis == 0 else step for axis, step in enumerate(SHIFT_VOX)]
    shifted = np.roll(reference, steps, axis=(0, 1, 2))
    for axis, step in enumerate(steps):
        np.moveaxis(shifted, axis, 0)[:step] = 0
    cross = ndimage.generate_binary_structure(3, 1)
    cross = cross[1:2] if single else cross
    for value, box in enumerate(ndimage.find_objects(shifted), 1):
        if box is not None and value % 2:
            part = shifted[box]
            inside = ndimage.binary_erosion(part == value, cross, border_value=1)
            part[(part == value) & ~inside] = 0
    return shifted


def made_organs() -> NDArray[np.uint8]:
    """25 ellipsoids of the sizes of lungs, a liver, kidneys, vessels and glands: [z, y, x]."""
    half_axes_vox = [(90, 80, 60)] * 2 + [(55, 75, 75)] + [(30, 35, 45)] * 4 + [(35, 18, 18)] * 6
    half_axes_vox += [(12, 14, 20)] * 6 + [(100, 10, 10)] * 3 + [(8, 8, 10)] * 3
    rng = np.random.default_rng(0)
    organs = np.zeros((300, 512, 512), np.uint8)
    for value, half in enumerate(np.array(half_axes_vox), 1):
        centre = rng.integers(half + 8, np.array(organs.shape) - half - 8)
        z, y, x = np.ogrid[tuple(slice(-h, h + 1) for h in half)]
        inside = (z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2 <= 1
        organs[tuple(map(slice, centre - half, centre + half + 1))][inside] = value
    return organs


def made_lesions(seed: int) -> Scan:
    """60 balls of 1 to 7 voxels, so close that some touch once dilated; the prediction misses a
    fifth, has another fifth of its own, and is moved."""
    rng = np.random.default_rng(seed)
    shape = (72, 120, 120)
    balls = np.zeros(shape, np.uint8)  # by number
    for number in range(1, 61):
        radius = int(rng.integers(1, 8))
        z, y, x = np.ogrid[tuple(slice(-radius, radius + 1) for _ in range(3))]
        centre = rng.integers(radius, np.array(shape) - radius)
        box = tuple(map(slice, centre - radius, centre + radius + 1))
        balls[box][z**2 + y**2 + x**2 <= radius**2] = number
    reference = ((balls > 0) & (balls <= 48)).astype(np.uint8)
    prediction = (moved(balls) > 12).astype(np.uint8)
    maps = MapPair(prediction, reference, None, (1.3, 1.0, 0.9), probabilities=waves(shape))
    return Scan(f"lesions-made_{seed}", maps, (1,))
