"""One reading of a case's files: what it is, and all that is wrong with it. Nothing is raised."""

from dataclasses import dataclass
from pathlib import Path

import fastremap

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import IGNORED, MAX_LABEL_VALUE, LabelScheme
from autoseg.dataset.objects import Classes, objects_of_things, read_numbers
from autoseg.dataset.problems import Problem
from autoseg.dataset.reading import (
    aligned,
    aligned_files,
    channel_problems,
    grid_problems,
    merge_channels,
    read_label_map,
)
from autoseg.errors import AutosegError, FractionalLabelsError, NotFiniteError
from autoseg.images.foreground import bounding_box, nonzero_mask
from autoseg.images.volume import Volume, read_image
from autoseg.inspection.objects import Numbers, number_mistakes, object_mistakes
from autoseg.inspection.statistics import CaseStats, Samples, case_stats, measure_case
from autoseg.inspection.stored_labels import rescaling

MANY_LABELS = 64  # undeclared labels with more values than this most likely number objects
SPACING_LIMITS_MM = (0.005, 25.0)  # beyond them a unit is most likely wrong


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a case. Without `stats` and `samples` it could not be read or used."""

    problems: tuple[Problem, ...]
    stats: CaseStats | None = None
    samples: Samples | None = None


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
        return Inspection(tuple(problems), case_stats(case, image, crop, {}, None, None))
    label = _read_label(case, problems)
    if label is None:
        return Inspection(tuple(problems))
    label = aligned(label, image)
    problems += _oddities(case, case.label, label)
    problems += grid_problems(case, image.grid, {case.label: label.grid})
    found = scheme or _scheme_found(case, label, problems)
    if any(problem.severity == "error" for problem in problems):
        return Inspection(tuple(problems))
    assert found is not None
    try:
        classes = found.encode(label.array, label.grid.spacing_mm)
    except ValueError as error:
        return Inspection((*problems, _undeclared(case, found, error.args[0])))
    del label
    if not ((classes > 0) & (classes != IGNORED)).any():
        problems.append(
            _about(case, case.label, "empty_label", "holds no foreground.", "Check the label.")
        )
    numbers = None
    if found.things:
        path = case.objects or case.label
        try:
            numbers, mistakes = _objects(case, image, classes, found)
        except AutosegError as error:
            return Inspection((*problems, _of_error(case, path, "objects", error)))
        problems += [_about(case, path, kind, what, fix) for kind, what, fix in mistakes]
    return Inspection(tuple(problems), *measure_case(case, image, classes, numbers, found))


def _objects(
    case: Case, image: Volume, classes: Classes, scheme: LabelScheme
) -> tuple[Numbers, list[tuple[str, str, str]]]:
    """Numbered things [z, y, x]; and kind, what, and remedy of what is odd in them."""
    given = read_numbers(case, image, scheme)
    numbers = objects_of_things(given, classes, scheme)
    mistakes = [*object_mistakes(numbers, classes, len(scheme.values), scheme.instances)]
    if given is not None and case.objects is not None:
        mistakes += number_mistakes(given, classes, scheme.thing_classes)
    return numbers, mistakes


def _read_images(case: Case, problems: list[Problem]) -> dict[Path, Volume]:
    volumes: dict[Path, Volume] = {}
    for path in case.files():
        try:
            volumes[path] = read_image(path)
        except NotFiniteError as error:
            problems.append(_of_error(case, path, "not_finite", error))
        except AutosegError as error:
            problems.append(_of_error(case, path, "unreadable", error))
    if len(volumes) == len(case.files()):
        volumes = aligned_files(case, volumes)
        problems += channel_problems(case, volumes)
    for path, volume in volumes.items():
        problems += _header_problems(case, path, volume)
    return volumes


def _read_label(case: Case, problems: list[Problem]) -> Volume | None:
    if case.label is None:
        return None
    try:
        return read_label_map(case.label, case.object_classes)
    except FractionalLabelsError as error:
        problems.append(_of_error(case, case.label, "fractional_label", error))
    except AutosegError as error:
        problems.append(_of_error(case, case.label, "unreadable", error))
    return None


def _header_problems(case: Case, path: Path, volume: Volume) -> list[Problem]:
    problems = _oddities(case, path, volume)
    low, high = SPACING_LIMITS_MM
    sizes = zip(volume.grid.spacing_mm, volume.grid.shape_vox, strict=True)
    if not all(low <= mm <= high for mm, size in sizes if size > 1):
        what = f"has a spacing of {'x'.join(f'{mm:.4g}' for mm in volume.grid.spacing_mm)} mm."
        fix = f"Scans have {low} to {high} mm; correct the header if this is wrong."
        problems.append(_about(case, path, "extreme_spacing", what, fix))
    return problems


def _oddities(case: Case, path: Path, volume: Volume) -> list[Problem]:
    return [_about(case, path, odd.kind, odd.what, odd.fix) for odd in volume.oddities]


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
    what = f"contains label values {shown}, but the dataset declares {declared}"
    what += f"{rescaling(values, scheme)}."
    return _about(case, case.label, "undeclared_label", what, "Declare them or correct the file.")


def _of_error(case: Case, path: Path, kind: str, error: AutosegError) -> Problem:
    return _about(case, path, kind, str(error).removeprefix(f"{path}: "), "")


def _about(case: Case, path: Path, kind: str, what: str, fix: str) -> Problem:
    return Problem(kind=kind, case_id=case.case_id, file=str(path), what=what, fix=fix)
