"""What one scan is: counts, intensities and components, measured from its arrays."""

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import IGNORED, LabelScheme
from autoseg.geometry import Box, Shape3, Spacing3
from autoseg.images.foreground import bounding_box, nonzero_mask
from autoseg.images.volume import Volume
from autoseg.inspection.objects import NO_OBJECTS, Numbers, ObjectSamples, measure_objects
from autoseg.records import Record

CLASS_SKETCH_SIZE = 50  # evenly spaced quantiles kept of each class
CLASS_SAMPLE = 20_000  # voxels of a class that its quantiles are taken from
PERCENTILES = (0.5, 50.0, 99.5)

# Quantiles kept of a case's foreground: each stands for an equal share of its part, and the parts
# at both ends, where percentiles are wanted, are narrow.
SKETCH_PARTS = ((0.0, 0.02, 500), (0.02, 0.98, 500), (0.98, 1.0, 500))
SKETCH_WEIGHTS = np.concatenate([np.full(n, (high - low) / n) for low, high, n in SKETCH_PARTS])
SKETCH_QUANTILES = np.cumsum(SKETCH_WEIGHTS) - SKETCH_WEIGHTS / 2
CLASS_QUANTILES = (np.arange(CLASS_SKETCH_SIZE) + 0.5) / CLASS_SKETCH_SIZE
VOXELS_AT_ONCE = 2**20
OBJECT_BOXES = 24  # of a scan, whose sizes are kept


class IntensityStats(Record):
    """Foreground intensities of one channel, in the scans' own units; cases weigh equally."""

    mean: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    median: float
    percentile_99_5: float


class CaseStats(Record):
    """One scan. Axes are (z, y, x) as stored; the crop is the box around non-zero voxels.

    `label_voxels` counts voxels by value: of the file, or of the class where files number objects.
    The intensities are those of labelled voxels inside the crop, per channel; None without any.
    `intensity_with_ignore` also counts voxels of the ignore label, where there is one. `ranges` are
    the lowest and highest value of each channel in the whole scan. `object_sizes_vox` are of boxes
    around objects, of an even sample of them.
    """

    case_id: str
    patient_id: str
    shape_vox: Shape3
    crop: Box
    spacing_mm: Spacing3
    axis_codes: str
    label_voxels: dict[int, int]
    intensity: tuple[IntensityStats, ...] | None
    intensity_with_ignore: tuple[IntensityStats, ...] | None
    pixel_hash: str
    ranges: tuple[tuple[float, float], ...] = ()
    object_sizes_vox: tuple[Shape3, ...] = ()

    @property
    def cropped_shape_vox(self) -> Shape3:
        z, y, x = self.crop.shape
        return z, y, x


@dataclass(frozen=True, slots=True)
class Samples:
    """Arrays of fixed size that statistics over all cases are made from."""

    sketch: NDArray[np.float32]  # [channel, quantile] of the foreground, empty without any
    sketch_with_ignore: NDArray[np.float32]  # empty where there is no ignore label
    class_values: NDArray[np.int64]  # [class]
    class_sketch: NDArray[np.float32]  # [class, channel, quantile]
    component_value: NDArray[np.int64]  # [component]
    component_mm3: NDArray[np.float64]  # [component]
    # As `ObjectSamples` has them; empty without things.
    object_class: NDArray[np.int64] = field(default_factory=lambda: NO_OBJECTS.of_class)
    object_diameter_mm: NDArray[np.float64] = field(default_factory=lambda: NO_OBJECTS.diameter_mm)
    object_touches: NDArray[np.bool_] = field(default_factory=lambda: NO_OBJECTS.touches)
    object_solidity: NDArray[np.float64] = field(default_factory=lambda: NO_OBJECTS.solidity)
    objects_in_box: NDArray[np.int64] = field(default_factory=lambda: NO_OBJECTS.in_box)


def measure_case(
    case: Case,
    image: Volume,
    classes: NDArray[np.uint8],
    numbers: Numbers | None,
    scheme: LabelScheme,
) -> tuple[CaseStats, Samples]:
    """Measure a scan [channel, z, y, x] with its class indices, and objects if it has any,
    [z, y, x]."""
    crop = bounding_box(nonzero_mask(image.array))
    inside = classes[crop.slices]
    annotated = (inside > 0) & (inside != IGNORED)
    labelled = image.array[:, *crop.slices]
    foreground = labelled[:, annotated]  # [channel, voxel]
    with_ignore = None if scheme.ignore is None else labelled[:, inside > 0]
    counts = _count(classes)
    values = {value: int(counts[index]) for index, value in enumerate(scheme.values)}
    if scheme.ignore is not None:
        values[scheme.ignore] = int(counts[IGNORED])
    component_class, component_voxels = _components(classes)
    voxel_mm3 = float(abs(np.linalg.det(image.grid.affine_ras_mm[:3, :3])))
    present = [index for index in range(len(scheme.values)) if counts[index]]
    rng = np.random.default_rng(zlib.crc32(case.case_id.encode()))
    objects = _objects(numbers, classes, image, scheme)
    samples = Samples(
        sketch=_quantiles(foreground, SKETCH_QUANTILES),
        sketch_with_ignore=_quantiles(
            foreground[:, :0] if with_ignore is None else with_ignore, SKETCH_QUANTILES
        ),
        class_values=np.array([scheme.values[index] for index in present], dtype=np.int64),
        class_sketch=_class_sketch(image.array, classes, present, rng),
        component_value=np.array([scheme.values[c] for c in component_class], dtype=np.int64),
        component_mm3=component_voxels * voxel_mm3,
        object_class=objects.of_class,
        object_diameter_mm=objects.diameter_mm,
        object_touches=objects.touches,
        object_solidity=objects.solidity,
        objects_in_box=objects.in_box,
    )
    stats = case_stats(case, image, crop, values, foreground, with_ignore)
    return stats.model_copy(update={"object_sizes_vox": _object_sizes(objects)}), samples


def _objects(
    numbers: Numbers | None, classes: NDArray[np.uint8], image: Volume, scheme: LabelScheme
) -> ObjectSamples:
    """The objects; where files number them, their border is a part of them."""
    if numbers is None:
        return NO_OBJECTS
    if scheme.instances:
        classes = np.minimum(classes, 1)
    return measure_objects(numbers, classes, image.grid.planning_spacing_mm, len(scheme.values))


def _object_sizes(objects: ObjectSamples) -> tuple[Shape3, ...]:
    """Those of a sample, from the smallest to the largest."""
    order = np.argsort(objects.diameter_mm, kind="stable")
    count = min(len(order), OBJECT_BOXES)
    chosen = order[((np.arange(count) + 0.5) / max(1, count) * len(order)).astype(int)]
    return tuple((z, y, x) for z, y, x in objects.sizes_vox[chosen].tolist())


def case_stats(
    case: Case,
    image: Volume,
    crop: Box,
    label_voxels: dict[int, int],
    foreground: NDArray[np.float32] | None,
    with_ignore: NDArray[np.float32] | None,
) -> CaseStats:
    """The statistics of a scan; the foreground values are [channel, voxel], None without labels."""
    return CaseStats(
        case_id=case.case_id,
        patient_id=case.patient_id,
        shape_vox=image.grid.shape_vox,
        crop=crop,
        spacing_mm=image.grid.planning_spacing_mm,
        axis_codes=image.grid.axis_codes,
        label_voxels=label_voxels,
        intensity=_intensity(foreground),
        intensity_with_ignore=_intensity(with_ignore),
        pixel_hash=_pixel_hash(image.array),
        ranges=tuple((float(values.min()), float(values.max())) for values in image.array),
    )


def _intensity(foreground: NDArray[np.float32] | None) -> tuple[IntensityStats, ...] | None:
    """Statistics of [channel, voxel]."""
    if foreground is None or not foreground.shape[1]:
        return None
    percentiles = np.percentile(foreground, PERCENTILES, axis=1)  # [percentile, channel]
    return tuple(
        IntensityStats(
            mean=float(values.mean(dtype=np.float64)),
            std=float(values.std(dtype=np.float64)),
            min=float(values.min()),
            max=float(values.max()),
            percentile_00_5=float(low),
            median=float(median),
            percentile_99_5=float(high),
        )
        for values, (low, median, high) in zip(foreground, percentiles.T, strict=True)
    )


def _quantiles(values: NDArray[np.float32], quantiles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Quantiles [channel, quantile] of [channel, voxel]; empty without voxels."""
    if not values.shape[1]:
        return np.zeros((values.shape[0], 0), dtype=np.float32)
    return np.sort(values, axis=1)[:, (quantiles * values.shape[1]).astype(np.int64)]


def _class_sketch(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    present: list[int],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Quantiles [class, channel, quantile] of a sample of each class's voxels."""
    flat, channels = classes.ravel(), image.reshape(len(image), -1)
    sketches = []
    for index in present:
        if index == 0:  # the background is most of the scan: try voxels until enough are hit
            tried = rng.integers(0, flat.size, min(flat.size, 2 * CLASS_SAMPLE))
            voxels = tried[flat[tried] == 0]
            voxels = voxels if voxels.size else np.flatnonzero(flat == 0)[:1]
        else:
            voxels = np.flatnonzero(flat == index)
            if voxels.size > CLASS_SAMPLE:
                voxels = rng.choice(voxels, CLASS_SAMPLE, replace=True)
        sketches.append(_quantiles(channels[:, voxels], CLASS_QUANTILES))
    return np.array(sketches, dtype=np.float32).reshape(-1, len(image), CLASS_SKETCH_SIZE)


def _components(classes: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Class and voxel count of each connected component (26 neighbours) of equal class."""
    box = bounding_box((classes > 0) & (classes != IGNORED))
    inside = np.ascontiguousarray(classes[box.slices])
    inside[inside == IGNORED] = 0
    numbered = cc3d.connected_components(inside, connectivity=26)
    statistics = cc3d.statistics(numbered, no_slice_conversion=True)
    voxels = statistics["voxel_counts"][1:]
    first = np.zeros(len(voxels) + 1, dtype=np.uint8)
    first[numbered.ravel()] = inside.ravel()
    return first[1:], voxels


def _count(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Voxels of each class index, without a large copy."""
    flat, total = classes.ravel(), np.zeros(256, dtype=np.int64)
    for start in range(0, flat.size, VOXELS_AT_ONCE):
        total += np.bincount(flat[start : start + VOXELS_AT_ONCE], minlength=256)
    return total


def _pixel_hash(image: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
