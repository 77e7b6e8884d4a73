"""DICOM as an archive gives it: series that a SEG or RTSTRUCT refers to are training cases."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.dicom_channels import match_channels
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import CHANNEL_SERIES, declared_labels
from autoseg.dataset.layouts.tidying import tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.dicom.derived import slice_distance_mm
from autoseg.images.dicom.folders import holds_dicom
from autoseg.images.dicom.headers import Instance
from autoseg.images.dicom.references import DESCRIPTION, names_in
from autoseg.images.dicom.survey import DicomVolume, LeftOut, not_dicom, survey_dicom


def is_dicom_folder(root: Path) -> bool:
    return root.is_dir() and holds_dicom(root)


def read_dicom_folder(root: Path, problems: list[Problem]) -> Dataset:
    """Series with a label object are training cases, and the others test cases.

    Cases are named after UIDs, and patients too. Labels are those that a `dataset.json` declares by
    the names of segments or structures; without one, their own numbers, if all files have the same
    names for them. Raises AutosegError where they have not, with the file that would help. Where it
    declares `channel_series`, patterns of series' descriptions by channel, several series of a
    study are a case, and its labels those of the first.
    """
    survey = survey_dicom([root])
    drawn = _label_objects(survey.label_objects)
    path = root / DESCRIPTION
    description = tidy_description(path, []) if path.is_file() else {}
    patterns = _declared_series(description, path)
    found, channel_names = _scans(survey.volumes, patterns, problems)
    cases, tests = list[Case](), list[Case]()
    volumes = {volume.name: volume for volume in survey.volumes}
    for scan in found:
        volume = volumes[scan.case_id]
        labels = drawn.pop(volume.stack.first.instance.series_uid, [])
        case = replace(scan, label=labels[0].path if labels else None)
        (cases if labels else tests).append(case)
        problems += _more_labels(volume, labels[1:])
    problems += [_taken(volume) for volume in survey.volumes]
    problems += _labels_of_nothing(drawn)
    beside = [file for file in survey.others if file != path]
    problems += [_left_out(one) for one in (*survey.left_out, *not_dicom(beside))]
    if "labels" in description:
        scheme: LabelScheme | None = declared_labels(tidy_description(path, problems), path)
    else:
        scheme = _scheme_of(root, [o for o in survey.label_objects if o.path in _used(cases)])
    return Dataset(
        root=root,
        layout="dicom",
        channel_names=channel_names,
        labels=scheme,
        cases=tuple(cases),
        test_cases=tuple(tests),
    )


def _used(cases: Sequence[Case]) -> set[Path | None]:
    return {case.label for case in cases}


def _declared_series(description: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Patterns by channel. Raises AutosegError where they are none."""
    patterns = description.get(CHANNEL_SERIES, {})
    texts = isinstance(patterns, dict) and all(isinstance(v, str) for v in patterns.values())
    if not texts:
        raise AutosegError(
            f"{path}: {CHANNEL_SERIES} must give each channel a pattern of its series' "
            f'description, such as {{"T1": "*mprage*", "FLAIR": "*flair*"}}.'
        )
    found: dict[str, str] = patterns
    return found


def _scans(
    volumes: Sequence[DicomVolume], patterns: Mapping[str, str], problems: list[Problem]
) -> tuple[list[Case], tuple[str, ...]]:
    """Cases without their labels, and what their channels are called."""
    if not patterns:
        modalities = sorted({volume.modality for volume in volumes})
        name = modalities[0] if len(modalities) == 1 else "channel_0"
        return [Case(v.name, (ChannelSource(v.path),), None, v.patient) for v in volumes], (name,)
    found = match_channels(volumes, tuple(patterns.values()))
    for told in found.problems:
        case_id, _, what = told.partition(": ")
        fix = "Change the patterns in dataset.json, or the series."
        problems.append(Problem(kind="left_out", case_id=case_id, file=None, what=what, fix=fix))
    problems += [_left_out(one) for one in found.left_out]
    return found.cases, tuple(patterns)


def _labels_of_nothing(drawn: Mapping[str, Sequence[Instance]]) -> Iterator[Problem]:
    """Label objects whose series is no scan here."""
    for objects in drawn.values():
        for one in objects:
            what = f"is a {one.modality} of a series that is not here, or is left out; not used."
            fix = "Put its series beside it, or see why that is left out."
            yield Problem(kind="unused_file", case_id=None, file=one.path.name, what=what, fix=fix)


def _label_objects(objects: Sequence[Instance]) -> dict[str, list[Instance]]:
    """SEG and RTSTRUCT files by the series that they refer to, in the order of their UIDs."""
    drawn: dict[str, list[Instance]] = defaultdict(list)
    for one in sorted(objects, key=lambda one: (one.modality != "SEG", one.sop_uid)):
        for series_uid in one.referenced[:1]:
            drawn[series_uid].append(one)
    return drawn


def _scheme_of(root: Path, objects: Sequence[Instance]) -> LabelScheme | None:
    """Labels by the numbers that all files give their names."""
    by_number: dict[int, set[str]] = defaultdict(set)
    for one in objects:
        for number, name in names_in(one).items():
            by_number[number].add(name)
    if not by_number:
        return None
    names = sorted({name for found in by_number.values() for name in found})
    if any(len(found) > 1 for found in by_number.values()) or len(names) < len(by_number):
        raise AutosegError(_proposal(root, names))
    ordered = {number: found.pop() for number, found in sorted(by_number.items())}
    return LabelScheme(values=(0, *ordered), names=("background", *ordered.values()))


def _proposal(root: Path, names: Sequence[str]) -> str:
    labels: Mapping[str, int] = {"background": 0} | {name: i for i, name in enumerate(names, 1)}
    shown = json.dumps({"labels": labels}, ensure_ascii=False)
    return (
        f"{root}: its SEG and RTSTRUCT files number their names differently. Save this as "
        f"{root / DESCRIPTION}, with only the names that are to be learned:\n{shown}"
    )


def _more_labels(volume: DicomVolume, others: Sequence[Instance]) -> list[Problem]:
    return [
        Problem(
            kind="unused_file",
            case_id=volume.name,
            file=one.path.name,
            what="is a second SEG or RTSTRUCT of one series, and is not used.",
            fix="Remove those that are not to be learned.",
        )
        for one in others
    ]


def _left_out(one: LeftOut) -> Problem:
    files = "1 file" if one.files == 1 else f"{one.files} files"
    series = f", series {one.number}" if one.number else ""
    what = f"left out ({files}{series}): {one.why}."
    return Problem(kind="left_out", case_id=one.series or None, file=None, what=what, fix="")


def _taken(volume: DicomVolume) -> Problem:
    """Which series a case is, in numbers and UIDs alone."""
    stack, first = volume.stack, volume.stack.first.instance
    slices, rows, columns = stack.grid.shape_vox
    parts = [f"{slices} {'slice' if slices == 1 else 'slices'} of {columns}x{rows}"]
    if slices > 1:
        parts.append(f"{slice_distance_mm(stack):.4g} mm apart")
    if first.series_number:
        parts.insert(0, f"series {first.series_number}")
    if stack.told_by and "DateTime" not in stack.told_by:
        parts.insert(1, stack.told_by)
    what = f"taken: {', '.join(parts)}. Its series is {first.series_uid or 'without a UID'}."
    return Problem(kind="taken", case_id=volume.name, file=None, what=what, fix="")
