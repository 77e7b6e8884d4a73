"""What a dataset is: grids, intensities, class imbalance, measured in one pass over its files."""

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import Case, Dataset, LabelScheme
from autoseg.errors import AutosegError, raise_if_any
from autoseg.foreground import bounding_box, nonzero_mask
from autoseg.geometry import Shape3, Spacing3, same_space
from autoseg.records import Record
from autoseg.volume import Volume, read_image, read_labels
from autoseg.workers import Progress, map_cases, silent

SKETCH_SIZE = 1000  # evenly spaced quantiles kept of a case's foreground, per channel
PERCENTILES = (0.5, 50.0, 99.5)


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
    """One scan. Arrays axes are (z, y, x) as stored; the crop is the non-zero box."""

    case_id: str
    shape_vox: Shape3
    cropped_shape_vox: Shape3
    spacing_mm: Spacing3
    axis_codes: str
    class_voxels: tuple[int, ...]
    intensity: tuple[IntensityStats, ...] | None  # per channel; None without any foreground


class ClassStats(Record):
    """How common and how large a class is; what the planner needs to see imbalance."""

    name: str
    value: int
    image_fraction: float
    foreground_fraction: float
    case_fraction: float
    components_per_case: float
    component_volume_mm3_p05: float
    component_volume_mm3_median: float
    component_volume_mm3_p95: float


class Fingerprint(Record):
    """Everything that plans are made from."""

    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[CaseStats, ...]
    foreground_intensity: tuple[IntensityStats, ...]
    classes: tuple[ClassStats, ...]


@dataclass(frozen=True, slots=True)
class CaseReading:
    """What a worker brings home of one case."""

    stats: CaseStats
    sketch: NDArray[np.float32]  # [channel, quantile], empty without foreground
    component_class: NDArray[np.uint8]  # [component]
    component_mm3: NDArray[np.floating[Any]]  # [component]


def make_fingerprint(dataset: Dataset, workers: int, progress: Progress = silent) -> Fingerprint:
    """Read every image and label once and measure the dataset.

    Raises AutosegError naming every case whose files are damaged, disagree in their grids, or hold
    label values that the dataset does not declare.
    """
    items = {case.case_id: (case, dataset.labels) for case in dataset.cases}
    readings = list(map_cases(_read_case, items, workers, progress, "looking at cases").values())
    if not any(reading.sketch.size for reading in readings):
        raise AutosegError(
            f"{dataset.root}: no label file contains any foreground. Check the labels."
        )
    return Fingerprint(
        channel_names=dataset.channel_names,
        labels=dataset.labels,
        cases=tuple(reading.stats for reading in readings),
        foreground_intensity=tuple(
            _pool_intensity(readings, channel) for channel in range(len(dataset.channel_names))
        ),
        classes=_class_stats(dataset.labels, readings),
    )


def read_case(case: Case) -> tuple[Volume, Volume]:
    """All channels of a case as one image, and its label map.

    Raises AutosegError when channels or label lie on different grids.
    """
    assert case.label is not None
    image = read_channels(case)
    label = read_labels(case.label)
    if not same_space(label.grid, image.grid):
        raise AutosegError(
            f"{case.case_id}: the label {case.label} lies on another grid than its image "
            f"({_describe(label)} against {_describe(image)}). Resample the label to the image."
        )
    return image, label


def read_channels(case: Case) -> Volume:
    """All channels of a case as one image [channel, z, y, x], on the first channel's grid.

    Raises AutosegError when files lie on different grids, or hold other channels than expected.
    """
    volumes = {path: read_image(path) for path in case.files()}
    first_path, first = next(iter(volumes.items()))
    problems = []
    for path, volume in volumes.items():
        if not same_space(volume.grid, first.grid):
            problems.append(
                f"{case.case_id}: {path} lies on another grid than {first_path} "
                f"({_describe(volume)} against {_describe(first)}). Resample it to the first one."
            )
        components = [source.component for source in case.channels if source.path == path]
        held = volume.array.shape[0]
        if components != [None] and sorted(c or 0 for c in components) != list(range(held)):
            problems.append(
                f"{case.case_id}: {path} holds {held} channels, where {len(components)} "
                "were expected. Every scan must have the same channels."
            )
    raise_if_any(problems, f"{case.case_id}: channels disagree")
    if len(case.channels) == 1 or len(volumes) == 1:
        return first
    parts = [volumes[source.path].array[source.component or 0][None] for source in case.channels]
    return Volume(np.concatenate(parts), first.grid, first.nifti_header)


def _describe(volume: Volume) -> str:
    size = "x".join(str(n) for n in volume.grid.shape_vox)
    spacing = "x".join(f"{s:.4g}" for s in volume.grid.spacing_mm)
    origin = ", ".join(f"{o:.4g}" for o in volume.grid.affine_ras_mm[:3, 3])
    return f"{size} voxels of {spacing} mm, {volume.grid.axis_codes}, origin {origin}"


def _read_case(item: tuple[Case, LabelScheme]) -> CaseReading:
    case, scheme = item
    image, label = read_case(case)
    try:
        classes = scheme.encode(label.array)
    except ValueError as error:
        declared = ", ".join(str(value) for value in scheme.values)
        raise AutosegError(
            f"{case.case_id}: {case.label} contains label values {error.args[0]}, but the dataset "
            f"declares {declared}. Declare them or correct the file."
        ) from None
    crop = bounding_box(nonzero_mask(image.array))
    foreground = image.array[:, *crop.slices][:, classes[crop.slices] > 0]  # [channel, voxel]
    component_class, component_voxels = _components(classes)
    z, y, x = crop.shape
    has_foreground = foreground.shape[1] > 0
    stats = CaseStats(
        case_id=case.case_id,
        shape_vox=image.grid.shape_vox,
        cropped_shape_vox=(z, y, x),
        spacing_mm=image.grid.planning_spacing_mm,
        axis_codes=image.grid.axis_codes,
        class_voxels=tuple(np.bincount(classes.ravel(), minlength=len(scheme.values)).tolist()),
        intensity=tuple(_intensity(values) for values in foreground) if has_foreground else None,
    )
    return CaseReading(
        stats=stats,
        sketch=_sketch(foreground),
        component_class=component_class,
        component_mm3=component_voxels * float(np.prod(image.grid.spacing_mm)),
    )


def _components(classes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Class and voxel count of every connected component (26 neighbours), background left out."""
    box = bounding_box(classes > 0)
    inside = np.ascontiguousarray(classes[box.slices])
    components, count = cc3d.connected_components(inside, connectivity=26, return_N=True)
    voxels = np.bincount(components.ravel(), minlength=count + 1)
    class_of = np.zeros(count + 1, dtype=np.uint8)
    class_of[components.ravel()] = inside.ravel()
    return class_of[1:], voxels[1:]


def _sketch(foreground: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evenly spaced quantiles that stand for a case's foreground, whatever its size."""
    if foreground.shape[1] == 0:
        return np.zeros((foreground.shape[0], 0), np.float32)
    ordered = np.sort(foreground, axis=1)
    middle = (np.arange(SKETCH_SIZE) + 0.5) / SKETCH_SIZE  # centres of equal shares
    sketch: NDArray[np.float32] = ordered[:, (middle * foreground.shape[1]).astype(np.int64)]
    return sketch


def _intensity(values: NDArray[np.float32]) -> IntensityStats:
    low, median, high = np.percentile(values, PERCENTILES)
    return IntensityStats(
        mean=float(values.mean(dtype=np.float64)),
        std=float(values.std(dtype=np.float64)),
        min=float(values.min()),
        max=float(values.max()),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
    )


def _pool_intensity(readings: list[CaseReading], channel: int) -> IntensityStats:
    """Statistics over all cases, each weighing the same."""
    stats = [r.stats.intensity[channel] for r in readings if r.stats.intensity is not None]
    mean = float(np.mean([s.mean for s in stats]))
    second_moment = float(np.mean([s.std**2 + s.mean**2 for s in stats]))
    pooled = np.concatenate([r.sketch[channel] for r in readings])
    low, median, high = np.percentile(pooled, PERCENTILES)
    return IntensityStats(
        mean=mean,
        std=float(np.sqrt(max(second_moment - mean**2, 0.0))),
        min=min(s.min for s in stats),
        max=max(s.max for s in stats),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
    )


def _class_stats(scheme: LabelScheme, readings: list[CaseReading]) -> tuple[ClassStats, ...]:
    voxels = np.array([reading.stats.class_voxels for reading in readings])  # [case, class]
    component_class = np.concatenate([reading.component_class for reading in readings])
    component_mm3 = np.concatenate([reading.component_mm3 for reading in readings])
    present = (voxels > 0).sum(axis=0)  # [class]
    result = []
    for index in range(1, len(scheme.values)):
        volumes: NDArray[Any] = component_mm3[component_class == index]
        p05, median, p95 = np.percentile(volumes, (5, 50, 95)) if volumes.size else (0.0, 0.0, 0.0)
        result.append(
            ClassStats(
                name=scheme.names[index],
                value=scheme.values[index],
                image_fraction=float(voxels[:, index].sum() / voxels.sum()),
                foreground_fraction=float(voxels[:, index].sum() / max(1, voxels[:, 1:].sum())),
                case_fraction=float(present[index] / len(readings)),
                components_per_case=len(volumes) / max(1, int(present[index])),
                component_volume_mm3_p05=float(p05),
                component_volume_mm3_median=float(median),
                component_volume_mm3_p95=float(p95),
            )
        )
    return tuple(result)
