"""Whose the cases are that are scored: as a dataset states it, or as names show for certain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.layouts.patients import Stated, stated_patients, with_patients
from autoseg.dataset.layouts.recognition import survey_dataset
from autoseg.dataset.layouts.tidying import tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.evaluation.declared import description_of
from autoseg.work_folder import WorkFolder

NOT_STATED = Stated({}, None, "", "")
NOT_KNOWN = "which cases are of one patient is not stated, so each counts as a patient of its own"
LOOK_ALIKE = (
    "names look as if some cases were of one patient, which is not stated, so each counts as a "
    "patient of its own, and intervals may be too narrow. State them in a dataset.json, as "
    '"patients"'
)


@dataclass(frozen=True, slots=True)
class Patients:
    """By case id, and what a reader should know of how they were found."""

    of_case: dict[str, str]
    notes: tuple[str, ...] = ()


def find_patients(references: Mapping[str, Path], work: Path) -> Patients:
    """The patients of reference masks by case id, without anyone saying where they are stated.

    Looked at are a work folder whose dataset the references are of, then dataset.json in or above
    their folder. Otherwise names tell, where they follow BIDS.
    """
    if (planned := _of_work(references, work)) is not None:
        return planned
    folder = next(iter(references.values())).parent if references else Path()
    path, problems = description_of(folder), list[Problem]()
    stated = NOT_STATED
    if path is not None:
        stated = stated_patients(tidy_description(path, []), path, problems)
    cases = tuple(Case(case_id, (), path, case_id) for case_id, path in references.items())
    found = with_patients(Dataset(folder, "plain", (), None, cases), stated, problems)
    of_case = {case.case_id: case.patient_id for case in found.cases}
    if any(problem.kind == "patients_not_stated" for problem in problems):
        return Patients(of_case, (LOOK_ALIKE,))
    is_told = path is not None or len(set(of_case.values())) < len(of_case)
    return Patients(of_case, () if is_told else (NOT_KNOWN,))


def _of_work(references: Mapping[str, Path], work: Path) -> Patients | None:
    """The patients of the dataset that a work folder was planned for; None of any other."""
    root = WorkFolder(work).dataset()
    if root is None or not root.exists():
        return None
    try:
        dataset, _ = survey_dataset(root)
    except AutosegError:  # it was not asked for
        return None
    known = {case.label.resolve(): case.patient_id for case in dataset.cases if case.label}
    own = {case_id: known.get(path.resolve()) for case_id, path in references.items()}
    if not any(own.values()):
        return None
    return Patients({case_id: patient or case_id for case_id, patient in own.items()})
