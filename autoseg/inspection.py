"""One reading of a case's files: all that planning and checking need to know of it."""

import hashlib
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from autoseg.cases import channel_problems, grid_problems, merge_channels
from autoseg.dataset import (
    IGNORED,
    MAX_LABEL_VALUE,
    Case,
    Dataset,
    LabelScheme,
    Problem,
)
from autoseg.errors import AutosegError, FractionalLabelsError, NotFiniteError
from autoseg.foreground import bounding_box, nonzero_mask
from autoseg.geometry import Box, Shape3, Spacing3
from autoseg.image_files import files_of, stated_unit, transforms_disagree
from autoseg.records import Record, replacing
from autoseg.volume import Volume, read_image, read_labels
from autoseg.workers import Progress, map_cases, silent

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
CLASS_SKETCH_SIZE = 50  # evenly spaced quantiles kept of each class
CLASS_SAMPLE = 20_000  # voxels of a class that its quantiles are taken from
PERCENTILES = (0.5, 50.0, 99.5)

# Quantiles kept of a case's foreground: each stands for an equal share of its part, and the parts
# at both ends, where percentiles are wanted, are narrow.
SKETCH_PARTS = ((0.0, 0.02, 500), (0.02, 0.98, 500), (0.98, 1.0, 500))
SKETCH_WEIGHTS = np.concatenate([np.full(n, (high - low) / n) for low, high, n in SKETCH_PARTS])
SKETCH_QUANTILES = np.cumsum(SKETCH_WEIGHTS) - SKETCH_WEIGHTS / 2
CLASS_QUANTILES = (np.arange(CLASS_SKETCH_SIZE) + 0.5) / CLASS_SKETCH_SIZE
MANY_LABELS = 64  # undeclared labels with more values than this most likely number objects
SPACING_LIMITS_MM = (0.005, 25.0)  # beyond them a unit is most likely wrong
BYTES_AT_ONCE = 2**24
VOXELS_AT_ONCE = 2**20


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
    `intensity_with_ignore` also counts voxels of the ignore label, where there is one.
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


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a case. Without `stats` and `samples` it could not be read or used."""

    problems: tuple[Problem, ...]
    stats: CaseStats | None = None
    samples: Samples | None = None


class InspectionRecord(Record):
    """The part of an inspection that is kept as text."""

    problems: tuple[Problem, ...]
    stats: CaseStats


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs to inspect a case; `cache` is where earlier inspections are."""

    case: Case
    scheme: LabelScheme | None
    cache: Path | None


def inspect_cases(
    dataset: Dataset,
    cases: tuple[Case, ...],
    cache: Path | None,
    workers: int,
    progress: Progress = silent,
) -> dict[str, Inspection]:
    """Read every file once, in parallel; cases whose files are in the cache are not read again."""
    tasks = {case.case_id: Task(case, dataset.labels, cache) for case in cases}
    return map_cases(_recall_or_inspect, tasks, workers, progress, "looking at cases")


def inspect_case(case: Case, scheme: LabelScheme | None) -> Inspection:
    """Read a case and measure it. What is wrong with it is returned, not raised."""
    problems: list[Problem] = []
    volumes = _read_images(case, problems)
    if any(problem.severity == "error" for problem in problems):
        _read_label(case, problems)
        return Inspection(tuple(problems))
    image = merge_channels(case, volumes)
    volumes.clear()
    problems += _image_problems(case, image)
    if case.label is None:
        crop = bounding_box(nonzero_mask(image.array))
        return Inspection(tuple(problems), _stats(case, image, crop, {}, None, None))
    label = _read_label(case, problems)
    if label is None:
        return Inspection(tuple(problems))
    problems += grid_problems(case, image.grid, {case.label: label.grid})
    found = scheme or _scheme_found(case, label, problems)
    if any(problem.severity == "error" for problem in problems):
        return Inspection(tuple(problems))
    assert found is not None
    try:
        classes = found.encode(label.array)
    except ValueError as error:
        return Inspection((*problems, _undeclared(case, found, error.args[0])))
    del label
    if not ((classes > 0) & (classes != IGNORED)).any():
        problems.append(
            _about(case, case.label, "empty_label", "holds no foreground.", "Check the label.")
        )
    return Inspection(tuple(problems), *_measure(case, image, classes, found))


def _measure(
    case: Case, image: Volume, classes: NDArray[np.uint8], scheme: LabelScheme
) -> tuple[CaseStats, Samples]:
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
    samples = Samples(
        sketch=_quantiles(foreground, SKETCH_QUANTILES),
        sketch_with_ignore=_quantiles(
            foreground[:, :0] if with_ignore is None else with_ignore, SKETCH_QUANTILES
        ),
        class_values=np.array([scheme.values[index] for index in present], dtype=np.int64),
        class_sketch=_class_sketch(image.array, classes, present, rng),
        component_value=np.array([scheme.values[c] for c in component_class], dtype=np.int64),
        component_mm3=component_voxels * voxel_mm3,
    )
    return _stats(case, image, crop, values, foreground, with_ignore), samples


def _stats(
    case: Case,
    image: Volume,
    crop: Box,
    label_voxels: dict[int, int],
    foreground: NDArray[np.float32] | None,
    with_ignore: NDArray[np.float32] | None,
) -> CaseStats:
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
    )


def _read_images(case: Case, problems: list[Problem]) -> dict[Path, Volume]:
    volumes = {}
    for path in case.files():
        try:
            volumes[path] = read_image(path)
        except NotFiniteError as error:
            problems.append(_of_error(case, path, "not_finite", error))
        except AutosegError as error:
            problems.append(_of_error(case, path, "unreadable", error))
    if len(volumes) == len(case.files()):
        problems += channel_problems(case, volumes)
    for path, volume in volumes.items():
        problems += _header_problems(case, path, volume)
    return volumes


def _read_label(case: Case, problems: list[Problem]) -> Volume | None:
    if case.label is None:
        return None
    try:
        return read_labels(case.label)
    except FractionalLabelsError as error:
        problems.append(_of_error(case, case.label, "fractional_label", error))
    except AutosegError as error:
        problems.append(_of_error(case, case.label, "unreadable", error))
    return None


def _header_problems(case: Case, path: Path, volume: Volume) -> list[Problem]:
    problems = []
    unit = stated_unit(volume.nifti_header)
    if unit in ("m", "um"):
        what = f"states its spacing in {'metres' if unit == 'm' else 'microns'}; it is read as "
        what += f"{'x'.join(f'{mm:.4g}' for mm in volume.grid.spacing_mm)} mm."
        fix = "If that is wrong, correct xyzt_units in the header; --fix writes it in mm."
        problems.append(_about(case, path, "unit", what, fix))
    if transforms_disagree(volume.nifti_header):
        what = "its qform and sform place it differently; the sform is used."
        fix = "Correct the wrong one, or set its code to 0."
        problems.append(_about(case, path, "transforms_disagree", what, fix))
    low, high = SPACING_LIMITS_MM
    sizes = zip(volume.grid.spacing_mm, volume.grid.shape_vox, strict=True)
    if not all(low <= mm <= high for mm, size in sizes if size > 1):
        what = f"has a spacing of {'x'.join(f'{mm:.4g}' for mm in volume.grid.spacing_mm)} mm."
        fix = f"Scans have {low} to {high} mm; correct the header if this is wrong."
        problems.append(_about(case, path, "extreme_spacing", what, fix))
    return problems


def _image_problems(case: Case, image: Volume) -> list[Problem]:
    problems = []
    for index, channel in enumerate(image.array):
        if channel.min() == channel.max():
            path = case.channels[min(index, len(case.channels) - 1)].path
            what = f"channel {index} is {channel.flat[0]:.4g} everywhere."
            fix = "Export the scan again, or remove the case."
            problems.append(_about(case, path, "constant_image", what, fix))
    return problems


def _scheme_found(case: Case, label: Volume, problems: list[Problem]) -> LabelScheme | None:
    """A scheme of the values in a label map, for datasets that declare none."""
    assert case.label is not None
    values = [int(value) for value in fastremap.unique(label.array)]
    if min(values) < 0 or max(values) > MAX_LABEL_VALUE:
        what = f"holds label values {min(values)} to {max(values)}."
        fix = f"Labels are whole numbers from 0 (background) to {MAX_LABEL_VALUE}."
        problems.append(_about(case, case.label, "undeclared_label", what, fix))
        return None
    if len(values) > MANY_LABELS:
        what = f"holds {len(values)} different values, as if it numbered objects one by one."
        fix = "Put such files into instances/ in place of labels/, or save each voxel's class."
        problems.append(_about(case, case.label, "undeclared_label", what, fix))
        return None
    together = tuple(sorted({0, *values}))
    return LabelScheme(values=together, names=tuple(str(value) for value in together))


def _undeclared(case: Case, scheme: LabelScheme, values: list[int]) -> Problem:
    assert case.label is not None
    shown = ", ".join(str(value) for value in values[:10]) + (", …" if len(values) > 10 else "")
    declared = ", ".join(str(value) for value in scheme.values)
    what = f"contains label values {shown}, but the dataset declares {declared}."
    return _about(case, case.label, "undeclared_label", what, "Declare them or correct the file.")


def _of_error(case: Case, path: Path, kind: str, error: AutosegError) -> Problem:
    return _about(case, path, kind, str(error).removeprefix(f"{path}: "), "")


def _about(case: Case, path: Path, kind: str, what: str, fix: str) -> Problem:
    return Problem(kind=kind, case_id=case.case_id, file=str(path), what=what, fix=fix)


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


def _recall_or_inspect(task: Task) -> Inspection:
    if task.cache is None:
        return inspect_case(task.case, task.scheme)
    try:
        path = task.cache / f"{_key(task)}.npz"
    except OSError:  # a file that cannot be opened is a finding, not a failure
        return inspect_case(task.case, task.scheme)
    if path.exists():
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            log.warning("%s is damaged; the case is looked at again.", path)
    inspection = inspect_case(task.case, task.scheme)
    if inspection.stats is not None and inspection.samples is not None:
        _save(path, inspection)
    return inspection


def _key(task: Task) -> str:
    """A hash of the case's names, the content of its files, and the labels that are declared."""
    scheme = task.scheme.model_dump_json() if task.scheme else ""
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {task.case} {scheme}".encode(), digest_size=12)
    files = [*task.case.files(), *([task.case.label] if task.case.label else [])]
    for path in (part for file in files for part in files_of(file)):
        with path.open("rb") as stream:
            while block := stream.read(BYTES_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()


def _save(path: Path, inspection: Inspection) -> None:
    assert inspection.stats is not None and inspection.samples is not None
    record = InspectionRecord(problems=inspection.problems, stats=inspection.stats)
    arrays: dict[str, Any] = {name: getattr(inspection.samples, name) for name in Samples.__slots__}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, record=np.array(record.model_dump_json()), **arrays)


def _load(path: Path) -> Inspection:
    with np.load(path, allow_pickle=False) as content:
        record = InspectionRecord.model_validate_json(str(content["record"]))
        samples = Samples(**{name: content[name] for name in Samples.__slots__})
    return Inspection(record.problems, record.stats, samples)
