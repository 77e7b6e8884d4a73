"""What is wrong with a dataset as a whole, from the inspections of its cases."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.problems import Problem
from autoseg.inspection.case import Inspection
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
        *_duplicates([*dataset.cases, *dataset.test_cases], inspections),
        *_unused_labels(dataset, inspections),
        *_side_notes(dataset.labels),
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


def _duplicates(cases: list[Case], inspections: dict[str, Inspection]) -> list[Problem]:
    by_pixels: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        inspection = inspections.get(case.case_id)
        if inspection is not None and inspection.stats is not None:
            by_pixels[inspection.stats.pixel_hash].append(case)
    return [
        Problem(
            kind="duplicate",
            case_id=case.case_id,
            file=str(case.files()[0]),
            what=f"holds the same voxels as {group[0].case_id}.",
            fix="Remove one of them, or give both the same patient.",
        )
        for group in by_pixels.values()
        for case in group[1:]
        if len({c.patient_id for c in group}) > 1
    ]


def _unused_labels(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    if dataset.labels is None:
        return []
    found: Counter[int] = Counter()
    for case in dataset.cases:
        inspection = inspections.get(case.case_id)
        if inspection is None or inspection.stats is None:
            return []  # what is in this case is not known
        found.update(inspection.stats.label_voxels)
    return [
        Problem(
            kind="unused_label",
            case_id=None,
            file=None,
            what=f"label {value} ({name}) is declared, but no scan has it.",
            fix="Remove it from the labels, or check the label files.",
        )
        for value, name in zip(dataset.labels.values, dataset.labels.names, strict=True)
        if value != 0 and not found[value] and not dataset.labels.instances
    ]


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
