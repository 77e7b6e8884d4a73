"""DICOM as an archive gives it: series that a SEG or RTSTRUCT refers to are training cases."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.description import declared_labels
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
    names for them. Raises AutosegError where they have not, with the file that would help.
    """
    survey = survey_dicom([root])
    drawn = _label_objects(survey.label_objects)
    path = root / DESCRIPTION
    described = path.is_file() and "labels" in tidy_description(path, [])
    cases, tests = list[Case](), list[Case]()
    for volume in survey.volumes:
        labels = drawn.get(volume.stack.first.instance.series_uid, [])
        case = Case(
            case_id=volume.name,
            channels=(ChannelSource(volume.path),),
            label=labels[0].path if labels else None,
            patient_id=volume.patient,
        )
        (cases if labels else tests).append(case)
        problems += _more_labels(volume, labels[1:])
        problems.append(_taken(volume))
    beside = [file for file in survey.others if file != path]
    problems += [_left_out(one) for one in (*survey.left_out, *not_dicom(beside))]
    used = [objects[0] for objects in drawn.values()]
    if described:
        scheme: LabelScheme | None = declared_labels(tidy_description(path, problems), path)
    else:
        scheme = _scheme_of(root, used)
    modalities = sorted({volume.modality for volume in survey.volumes})
    return Dataset(
        root=root,
        layout="dicom",
        channel_names=(modalities[0] if len(modalities) == 1 else "channel_0",),
        labels=scheme,
        cases=tuple(cases),
        test_cases=tuple(tests),
    )


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
