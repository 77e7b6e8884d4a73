"""What a dataset is: grids, intensities, class imbalance, pooled from one reading of its files."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import MAX_CLASSES, LabelScheme
from autoseg.dataset.problems import raise_errors
from autoseg.errors import AutosegError
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.case import Inspection
from autoseg.inspection.statistics import (
    PERCENTILES,
    SKETCH_WEIGHTS,
    CaseStats,
    IntensityStats,
    Samples,
)
from autoseg.parallel import Progress, silent
from autoseg.records import Record

HISTOGRAM_BINS = 60
HISTOGRAM_PERCENTILES = (0.5, 99.5)  # of all classes' samples: the range that histograms cover


class ObjectStats(Record):
    """How many objects of a class there are, how large they are, and how they lie.

    Counts are of scans that have the class, and of the fullest box of a patch's size (128 voxels on
    a side, or 256 pixels). Diameters are those of balls, or in single slices discs, of equal size.
    `touching_fraction` of them share a face, edge or corner with another. `solidity` is the median
    share of its convex hull that an object fills; None where all are too small to say.
    """

    per_scan_median: float
    per_scan_p99_5: float
    per_scan_max: int
    in_patch_max: int
    diameter_mm_p05: float
    diameter_mm_median: float
    diameter_mm_p95: float
    diameter_mm_p99_5: float
    touching_fraction: float
    solidity: float | None


class ClassStats(Record):
    """How common and how large a class is, and what it looks like.

    Fractions are of voxels over all cases, and of cases. Component volumes are those of connected
    voxels (26 neighbours). `histogram` is the share of voxels in each bin of each channel.
    `objects` are those of a class of things.
    """

    name: str
    value: int
    image_fraction: float
    foreground_fraction: float
    case_fraction: float
    components_per_case: float
    component_volume_mm3_p05: float
    component_volume_mm3_median: float
    component_volume_mm3_p95: float
    histogram: tuple[tuple[float, ...], ...] = ()
    objects: ObjectStats | None = None


class Fingerprint(Record):
    """Everything that plans are made from.

    `foreground_intensity` is of annotated foreground; `intensity_with_ignore` also counts voxels of
    the ignore label, as nnU-Net does; None where there is no such label. `classes` starts with
    label value 1 or the lowest other; `background_histogram` is the background's.
    `histogram_edges` are the bins' bounds of each channel.
    """

    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[CaseStats, ...]
    foreground_intensity: tuple[IntensityStats, ...]
    intensity_with_ignore: tuple[IntensityStats, ...] | None = None
    classes: tuple[ClassStats, ...]
    histogram_edges: tuple[tuple[float, ...], ...] = ()
    background_histogram: tuple[tuple[float, ...], ...] = ()


def make_fingerprint(
    dataset: Dataset, workers: int, progress: Progress = silent, cache: Path | None = None
) -> Fingerprint:
    """Read every image and label once and measure the dataset.

    Raises AutosegError naming every case whose files are damaged, disagree in their grids, or hold
    label values that the dataset does not declare.
    """
    inspections = inspect_cases(dataset, dataset.cases, cache, workers, progress)
    raise_errors(
        [p for inspection in inspections.values() for p in inspection.problems],
        f"{dataset.root}: some cases cannot be used",
    )
    return pool_fingerprint(dataset, inspections)


def pool_fingerprint(dataset: Dataset, inspections: dict[str, Inspection]) -> Fingerprint:
    """The fingerprint of cases that were inspected; those that could not be read are left out."""
    readings = [
        (inspection.stats, inspection.samples)
        for inspection in inspections.values()
        if inspection.stats is not None and inspection.samples is not None
    ]
    if not any(stats.intensity for stats, _ in readings):
        raise AutosegError(
            f"{dataset.root}: no label file contains any foreground. Check the labels."
        )
    stats = [stats for stats, _ in readings]
    samples = [samples for _, samples in readings]
    labels = dataset.labels or _labels_found(stats)
    channels = range(len(dataset.channel_names))
    edges = [_histogram_edges(samples, channel) for channel in channels]
    return Fingerprint(
        channel_names=dataset.channel_names,
        labels=labels,
        cases=tuple(stats),
        foreground_intensity=_pool_intensities(
            [s.intensity for s in stats], [s.sketch for s in samples], channels
        ),
        intensity_with_ignore=None
        if labels.ignore is None
        else _pool_intensities(
            [s.intensity_with_ignore for s in stats],
            [s.sketch_with_ignore for s in samples],
            channels,
        ),
        classes=tuple(
            _class_stats(labels, index, stats, samples, edges)
            for index in range(1, len(labels.values))
        ),
        histogram_edges=tuple(tuple(e.tolist()) for e in edges),
        background_histogram=_histogram(samples, labels.values[0], edges),
    )


def _labels_found(stats: list[CaseStats]) -> LabelScheme:
    """The scheme of a dataset that declares none: every value that was found is a class."""
    values = tuple(sorted({0, *(value for case in stats for value in case.label_voxels)}))
    if len(values) > MAX_CLASSES:
        raise AutosegError(
            f"The label files hold {len(values)} different values, {MAX_CLASSES} at most can be. "
            "Do they number objects? Then put them into instances/ in place of labels/."
        )
    return LabelScheme(
        values=values, names=("background", *(f"label_{value}" for value in values[1:]))
    )


def _pool_intensities(
    intensities: list[tuple[IntensityStats, ...] | None],
    sketches: list[NDArray[np.float32]],
    channels: range,
) -> tuple[IntensityStats, ...]:
    return tuple(_pool_intensity(intensities, sketches, channel) for channel in channels)


def _pool_intensity(
    intensities: list[tuple[IntensityStats, ...] | None],
    sketches: list[NDArray[np.float32]],
    channel: int,
) -> IntensityStats:
    """Statistics of one channel over all cases, each weighing the same."""
    stats = [intensity[channel] for intensity in intensities if intensity is not None]
    mean = float(np.mean([s.mean for s in stats]))
    second_moment = float(np.mean([s.std**2 + s.mean**2 for s in stats]))
    low, median, high = _pooled_percentiles([s[channel] for s in sketches if s.size])
    return IntensityStats(
        mean=mean,
        std=float(np.sqrt(max(second_moment - mean**2, 0.0))),
        min=min(s.min for s in stats),
        max=max(s.max for s in stats),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
    )


def _pooled_percentiles(sketches: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The wanted percentiles of all cases' quantiles, each weighing what it stands for."""
    values, weights = np.concatenate(sketches), np.tile(SKETCH_WEIGHTS, len(sketches))
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) - weights[order] / 2
    wanted = np.array(PERCENTILES) / 100 * len(sketches)
    percentiles: NDArray[np.float64] = np.interp(wanted, reached, values[order])
    return percentiles


def _class_stats(
    labels: LabelScheme,
    index: int,
    stats: list[CaseStats],
    samples: list[Samples],
    edges: list[NDArray[np.float64]],
) -> ClassStats:
    value = labels.values[index]
    voxels = [case.label_voxels.get(value, 0) for case in stats]
    foreground = sum(case.label_voxels.get(v, 0) for case in stats for v in labels.values[1:])
    everything = sum(sum(case.label_voxels.values()) for case in stats)
    present = sum(count > 0 for count in voxels)
    volumes = np.concatenate([s.component_mm3[s.component_value == value] for s in samples])
    p05, median, p95 = np.percentile(volumes, (5, 50, 95)) if volumes.size else (0.0, 0.0, 0.0)
    return ClassStats(
        name=labels.names[index],
        value=value,
        image_fraction=sum(voxels) / everything,
        foreground_fraction=sum(voxels) / max(1, foreground),
        case_fraction=present / len(stats),
        components_per_case=len(volumes) / max(1, present),
        component_volume_mm3_p05=float(p05),
        component_volume_mm3_median=float(median),
        component_volume_mm3_p95=float(p95),
        histogram=_histogram(samples, value, edges),
        objects=_object_stats(index, samples) if labels.names[index] in labels.things else None,
    )


def _object_stats(index: int, samples: list[Samples]) -> ObjectStats | None:
    """The objects of a class over all scans that have any."""
    masks = [s.object_class == index for s in samples]
    counts = [int(mask.sum()) for mask in masks if mask.any()]
    if not counts:
        return None

    def pooled(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([array[mask] for array, mask in zip(arrays, masks, strict=True)])

    diameters = np.percentile(pooled([s.object_diameter_mm for s in samples]), (5, 50, 95, 99.5))
    solidity = pooled([s.object_solidity for s in samples])
    known = solidity[np.isfinite(solidity)]
    p05, median, p95, p99_5 = (float(mm) for mm in diameters)
    return ObjectStats(
        per_scan_median=float(np.median(counts)),
        per_scan_p99_5=float(np.percentile(counts, 99.5)),
        per_scan_max=max(counts),
        in_patch_max=max(int(s.objects_in_box[index]) for s in samples if s.objects_in_box.size),
        diameter_mm_p05=p05,
        diameter_mm_median=median,
        diameter_mm_p95=p95,
        diameter_mm_p99_5=p99_5,
        touching_fraction=float(pooled([s.object_touches for s in samples]).mean()),
        solidity=float(np.median(known)) if known.size else None,
    )


def _histogram_edges(samples: list[Samples], channel: int) -> NDArray[np.float64]:
    """Bin edges that cover nearly all of every class in one channel."""
    pooled = np.concatenate([s.class_sketch[:, channel].ravel() for s in samples])
    low, high = np.percentile(pooled, HISTOGRAM_PERCENTILES)
    return np.linspace(low, max(high, low + 1e-6), HISTOGRAM_BINS + 1)


def _histogram(
    samples: list[Samples], value: int, edges: list[NDArray[np.float64]]
) -> tuple[tuple[float, ...], ...]:
    """The share of a class's voxels in each bin, cases weighing equally, for each channel."""
    sketches = [s.class_sketch[s.class_values == value] for s in samples]
    pooled = np.concatenate(sketches)  # [case, channel, quantile]
    if not len(pooled):
        return ()
    result = []
    for channel, bounds in enumerate(edges):
        counts, _ = np.histogram(pooled[:, channel], bounds)
        result.append(tuple((counts / pooled[:, channel].size).round(5).tolist()))
    return tuple(result)
