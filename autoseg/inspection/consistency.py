"""What is wrong with a dataset as a whole, from the inspections of its cases."""

import re
from collections import defaultdict
from dataclasses import dataclass

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.folder_files import listed
from autoseg.dataset.problems import Problem
from autoseg.dataset.splits import FOLD_COUNT, given_splits
from autoseg.inspection.case import Inspection
from autoseg.inspection.hounsfield import channel_problems_of_values
from autoseg.inspection.outliers import outliers
from autoseg.inspection.stored_labels import lossy_labels
from autoseg.records import Record

# The word for left: on its own, or set off by capitals as in LeftKidney and kidneyL.
LEFT = re.compile(
    r"(?<![A-Za-z0-9])(?:[Ll]eft|LEFT|[Ll]h|LH|[Ll])(?![a-z0-9])|(?<=[a-z])(?:Left|L)(?![a-z0-9])"
)
SIDES = {"left": "right", "lh": "rh", "l": "r"}


class CheckReport(Record):
    """Everything that `check` found."""

    dataset: str
    cases: int
    problems: tuple[Problem, ...]

    def count(self, severity: str) -> int:
        """How many problems are of a severity."""
        return sum(problem.severity == severity for problem in self.problems)


@dataclass(frozen=True, slots=True)
class SidePair:
    """Two classes that differ only in being left or right."""

    left: str
    right: str


def dataset_problems(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    """Problems that no single case shows; those of the cases are not repeated.

    `inspections` are of training cases, and of test cases where these were read too.
    """
    return [
        *_patients_on_both_sides(dataset),
        *_patients_in_both_parts(dataset),
        *_duplicates([*dataset.cases, *dataset.test_cases], inspections),
        *_class_problems(dataset, inspections),
        *_ignored_cases(dataset, inspections),
        *_side_notes(dataset.labels),
        *outliers([*dataset.cases, *dataset.test_cases], inspections),
        *channel_problems_of_values(dataset, inspections),
        *lossy_labels(dataset, [p for i in inspections.values() for p in i.problems]),
    ]


def side_pairs(names: tuple[str, ...]) -> tuple[SidePair, ...]:
    """Pairs of class names that differ only in left and right, such as kidney_left, kidney_right.

    Known words are left and right, lh and rh, l and r, set off by capitals or by anything but
    letters and digits.
    """
    lowered = {name.casefold(): name for name in names}
    pairs = []
    for name in names:
        for match in LEFT.finditer(name):
            side = SIDES[match[0].casefold()]
            twin = (name[: match.start()] + side + name[match.end() :]).casefold()
            if twin in lowered:
                pairs.append(SidePair(name, lowered[twin]))
                break
    return tuple(pairs)


def _patients_on_both_sides(dataset: Dataset) -> list[Problem]:
    trained = {case.patient_id for case in dataset.cases}
    return [
        Problem(
            kind="patient_in_train_and_test",
            case_id=case.case_id,
            file=str(case.files()[0]),
            what=f"patient {case.patient_id} is both trained on and kept for testing.",
            fix="Move all scans of a patient to one side, or test scores will be too good.",
        )
        for case in dataset.test_cases
        if case.patient_id in trained
    ]


def _patients_in_both_parts(dataset: Dataset) -> list[Problem]:
    patients = {case.case_id: case.patient_id for case in dataset.cases}
    mixed = sorted(given_splits(list(patients), dataset.folds).mixed_patients(patients))
    if not mixed:
        return []
    return [
        Problem(
            kind="patient_in_both_parts",
            case_id=None,
            file=str(dataset.root),
            what=f"its folds train on some scans of {listed(mixed)} and hold out others.",
            fix="Keep all scans of a patient on one side of a fold, or scores will be too good.",
        )
    ]


def _duplicates(cases: list[Case], inspections: dict[str, Inspection]) -> list[Problem]:
    by_pixels: dict[str, list[Case]] = defaultdict(list)
    first = {case.case_id: case for case in reversed(cases)}  # of one name is one inspection
    for case in reversed(first.values()):
        inspection = inspections.get(case.case_id)
        if inspection is not None and inspection.stats is not None:
            by_pixels[inspection.stats.pixel_hash].append(case)
    return [
        Problem(
            kind="duplicate",
            case_id=case.case_id,
            file=str(case.files()[0]),
            what=f"holds the same voxels as {group[0].case_id}.",
            fix="Remove one of them, or state that they are of one patient: by patients in "
            "dataset.json, or a table's column patient.",
        )
        for group in by_pixels.values()
        for case in group[1:]
        if len({c.patient_id for c in group}) > 1
    ]


def _class_problems(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    """Classes that no case has, or fewer patients than there are folds."""
    found = {case.case_id: inspections.get(case.case_id) for case in dataset.cases}
    if not found or any(i is None or i.stats is None for i in found.values()):
        return []  # what is in all cases is not known
    patients: dict[int, dict[str, str]] = defaultdict(dict)  # by value: a case of each patient
    for case in dataset.cases:
        for value in _present(found[case.case_id]):
            patients[value].setdefault(case.patient_id, case.case_id)
    if dataset.labels is None:
        names = {value: f"label_{value}" for value in sorted(patients)}
    elif dataset.labels.instances:
        return []
    else:
        names = dict(zip(dataset.labels.values, dataset.labels.names, strict=True))
    problems = []
    for value, name in names.items():
        cases = list(patients[value].values())
        if value and not cases:
            problems.append(_unused(value, name))
        elif value:
            problems += _rare(dataset, f"label {value} ({name})", cases)
    return problems


def _unused(value: int, name: str) -> Problem:
    return Problem(
        kind="unused_label",
        case_id=None,
        file=None,
        what=f"label {value} ({name}) is declared, but no scan has it.",
        fix="Remove it from the labels, or check the label files.",
    )


def _rare(dataset: Dataset, label: str, cases: list[str]) -> list[Problem]:
    """A warning of a class that some folds cannot train on, or cannot measure."""
    patient_count = len({case.patient_id for case in dataset.cases})
    folds = len(dataset.folds) or min(FOLD_COUNT, patient_count)
    if patient_count < 2 or len(cases) >= folds:
        return []
    if len(cases) == 1:
        what = f"{label} is in {cases[0]} alone: the fold that holds it out never trains on it."
    else:
        what = f"{label} is in scans of {len(cases)} patients alone ({listed(cases)}), and there "
        what += f"are {folds} folds: some hold out none of it, and cannot measure it."
    fix = "Add cases that have it, or train on all with `autoseg train --fold all`."
    return [Problem(kind="rare_class", case_id=None, file=None, what=what, fix=fix)]


def _ignored_cases(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    ignore = dataset.labels.ignore if dataset.labels else None
    return [
        Problem(
            kind="all_ignored",
            case_id=case.case_id,
            file=str(case.label),
            what=f"each of its voxels is {ignore}, which is ignored: it is left out of training.",
            fix="Annotate some of it, or remove the case.",
        )
        for case in dataset.cases
        if ignore is not None and _present(inspections.get(case.case_id)) == {ignore}
    ]


def _present(inspection: Inspection | None) -> set[int]:
    """The label values that a case has; none where it could not be read."""
    stats = inspection.stats if inspection else None
    return {value for value, voxels in stats.label_voxels.items() if voxels} if stats else set()


def _side_notes(labels: LabelScheme | None) -> list[Problem]:
    names = labels.all_names() if labels else ()
    return [
        Problem(
            kind="left_right",
            case_id=None,
            file=None,
            what=f"labels {pair.left} and {pair.right} differ only in their side.",
            fix="The rule set default does not mirror such data from left to right; nnunet does.",
        )
        for pair in side_pairs(names)
    ]
