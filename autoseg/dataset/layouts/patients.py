"""Which scans are of one patient: as a dataset states it, or as names show it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.layouts.folder_files import listed
from autoseg.dataset.layouts.naming import composed
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError

BY_NAME, BY_CASE = "by name", "by case"

BIDS = re.compile(r"(?:^|.*_)(sub-[A-Za-z0-9]+)(?:_.*|$)")
# What sets scans of one patient apart: a visit, a day, a phase, a side.
VISIT = re.compile(
    r"(.*[^-_. ])[-_. ]+(?:"
    r"(?:v|visit|ses|session|t|tp|time|timepoint|scan|exam|study|frame|phase|day|week|month|year|"
    r"w|m|y|fu)[-_ ]?\d{1,4}|(?:19|20)\d\d-?[01]\d-?[0-3]\d|baseline|bl|follow-?_?up|fu|pre|post|"
    r"pre-?_?op|post-?_?op|l|r|lt|rt|left|right|lh|rh|ed|es|inspiration|expiration)",
    re.I,
)
NUMBERED = re.compile(r"(.*\d)[-_. ]\d{1,3}")  # patient_012_1: a number within a number
MOST_SCANS = 20  # of one patient: names with more in common number scans
MOST_NUMBERED, FEWEST_PATIENTS = 6, 3
PATIENTS_SHOWN = 3

PatientOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Stated:
    """What a dataset states of patients: of which case, and whether names are to be believed.

    `by_name` is None where nothing is said. `how` tells a user how to state what names show, and
    `how_else` how to state something else.
    """

    of_case: Mapping[str, str]
    by_name: bool | None
    how: str
    how_else: str


def stated_patients(description: Mapping[str, Any], path: Path, problems: list[Problem]) -> Stated:
    """The `patients` of a `dataset.json`: a mapping of cases, or `by name`, or `by case`.

    Raises AutosegError when it is something else.
    """
    to = f"to {path}" if path.is_file() else f"in braces to a new file {path}"
    how = (
        f'Add "patients": "{BY_NAME}" {to} to keep them together so, "{BY_CASE}" if each is of '
        'another person, or a mapping {"case": "patient", …}.'
    )
    how_else = (
        f'If this is wrong, add "patients": "{BY_CASE}" {to}, or {{"case": "patient", …}} in its '
        "place."
    )
    stated = description.get("patients")
    if stated in (BY_NAME, BY_CASE, None):
        return Stated({}, None if stated is None else stated == BY_NAME, how, how_else)
    if not isinstance(stated, dict) or not all(
        isinstance(patient, str | int) for patient in stated.values()
    ):
        raise AutosegError(
            f'{path}: patients must be {{"case": "patient", …}}, "{BY_NAME}" or "{BY_CASE}"; it is '
            f"{str(stated)[:60]}."
        )
    of_case = {composed(case): str(patient) for case, patient in stated.items()}
    return Stated(of_case, None, how, how_else)


def with_patients(dataset: Dataset, stated: Stated, problems: list[Problem]) -> Dataset:
    """The dataset with the patients that are stated, and those that names show for certain.

    BIDS's `sub-` is certain; what else looks like visits or sides of one patient is a warning.
    """
    cases = (*dataset.cases, *dataset.test_cases)
    problems += _unknown(dataset.root, stated, {case.case_id for case in cases})
    left = {case.case_id for case in cases} - stated.of_case.keys()
    certain = {} if stated.by_name is False else _several(_grouped(left, _bids_subject))
    by_case = {name: p for p, group in certain.items() for name in group}
    likely = {} if stated.by_name is False else patients_in_names(left - by_case.keys())
    if stated.by_name:
        by_case |= {name: patient for patient, group in likely.items() for name in group}
    elif stated.by_name is None:
        problems += [_noted(dataset.root, certain, stated)] if certain else []
        problems += [_warned(dataset.root, likely, stated)] if likely else []
    patients = {case.case_id: case.patient_id for case in cases} | by_case | dict(stated.of_case)

    def named(some: Iterable[Case]) -> tuple[Case, ...]:
        return tuple(
            replace(case, patient_id=patients[case.case_id])
            if case.patient_id == case.case_id
            else case
            for case in some
        )

    return replace(dataset, cases=named(dataset.cases), test_cases=named(dataset.test_cases))


def patients_in_names(case_ids: Iterable[str]) -> dict[str, list[str]]:
    """Cases that seem to be of one patient, by what their names share; those alone are left out."""
    names = set(case_ids)
    visits = _shared(names, _without_visits, MOST_SCANS)
    left = names - {name for group in visits.values() for name in group}
    numbered = _shared(left, _without_number, MOST_NUMBERED)
    return visits | (numbered if len(numbered) >= FEWEST_PATIENTS else {})


def _shared(names: Iterable[str], patient_of: PatientOf, most: int) -> dict[str, list[str]]:
    """Groups by a part of the names, unless it is the dataset's own, or numbers scans."""
    groups = _grouped(names, patient_of)
    if len(groups) < 2 or max(map(len, groups.values())) > most:
        return {}
    return _several(groups)


def _grouped(names: Iterable[str], patient_of: PatientOf) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if patient := patient_of(name):
            groups[patient].append(name)
    return groups


def _several(groups: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {patient: group for patient, group in groups.items() if len(group) > 1}


def _bids_subject(name: str) -> str | None:
    found = BIDS.fullmatch(name)
    return found[1] if found else None


def _without_visits(name: str) -> str | None:
    core = name
    while found := VISIT.fullmatch(core):
        core = found[1]
    return core if core != name else None


def _without_number(name: str) -> str | None:
    found = NUMBERED.fullmatch(name)
    return found[1] if found else None


def _unknown(root: Path, stated: Stated, known: set[str]) -> list[Problem]:
    unknown = sorted(stated.of_case.keys() - known)
    if not unknown:
        return []
    return [
        Problem(
            kind="description",
            case_id=None,
            file=str(root),
            what=f"patients are stated of {listed(unknown)}, but no such cases are here.",
            fix="Write the names of cases as they are in the dataset.",
        )
    ]


def _noted(root: Path, groups: Mapping[str, list[str]], stated: Stated) -> Problem:
    return Problem(
        kind="patients_by_name",
        case_id=None,
        file=str(root),
        what=f"{_evidence(groups)}, as BIDS calls them; folds keep each together.",
        fix=stated.how_else,
    )


def _warned(root: Path, groups: Mapping[str, list[str]], stated: Stated) -> Problem:
    return Problem(
        kind="patients_not_stated",
        case_id=None,
        file=str(root),
        what=f"{_evidence(groups)} by their names, but this is not stated. Folds may train on one "
        "scan of a person and hold out another, so scores may be too good.",
        fix=stated.how,
    )


def _evidence(groups: Mapping[str, list[str]]) -> str:
    count = sum(map(len, groups.values()))
    some = list(groups.items())[:PATIENTS_SHOWN]
    shown = "; ".join(f"{patient}: {listed(group)}" for patient, group in some)
    more = f"; and {len(groups) - len(some)} more" if len(groups) > len(some) else ""
    patients = "one patient" if len(groups) == 1 else f"{len(groups)} patients"
    return f"{count} cases are of {patients} ({shown}{more})"
