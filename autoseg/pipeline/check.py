"""Checking: every file of a dataset read once, and all that is wrong told together."""

from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource, Dataset
from autoseg.dataset.layouts.recognition import survey_dataset
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.dicom.survey import scans_of_files
from autoseg.images.formats import file_ending, is_image
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.case import Inspection
from autoseg.inspection.consistency import CheckReport, dataset_problems
from autoseg.inspection.repair import Repair, write_repaired
from autoseg.parallel import Progress, silent


def check_dataset(
    path: Path, fix: Path | None, workers: int, progress: Progress = silent
) -> tuple[CheckReport, list[Repair]]:
    """Read every file of a dataset, or a single scan, once, and report all that is wrong.

    With `fix`, a corrected copy is written there, and what was changed or left out is returned too.
    Raises AutosegError when no dataset is recognised.
    """
    if path.is_file() and is_image(path):
        if fix is not None:
            raise AutosegError(f"{path}: --fix corrects datasets, and this is a single scan.")
        dataset, problems = _single_scan(path), list[Problem]()
    else:
        dataset, problems = survey_dataset(path)
    cases = {case.case_id for case in (*dataset.cases, *dataset.test_cases)}
    no_scans = dataset.layout == "dicom"  # what an archive holds beside them is no case
    missed = [p for p in problems if p.case_id and not (no_scans and p.kind == "left_out")]
    incomplete = {problem.case_id for problem in missed} - cases
    tests = inspect_cases(dataset, dataset.test_cases, None, workers, progress)
    trained = inspect_cases(dataset, dataset.cases, None, workers, progress)
    for inspection in tests.values():
        problems += inspection.problems
    problems += all_problems(dataset, tests | trained)
    report = CheckReport(
        dataset=str(path),
        cases=len(dataset.cases) + len(dataset.test_cases) + len(incomplete),
        problems=tuple(dict.fromkeys(problems)),
    )
    if fix is None:
        return report, []
    return report, write_repaired(dataset, problems, fix, workers, progress)


def all_problems(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    """What is wrong with single cases, and with all together."""
    together = dataset_problems(dataset, inspections)
    ignored = {problem.case_id for problem in together if problem.kind == "all_ignored"}
    of_cases = [p for inspection in inspections.values() for p in inspection.problems]
    told = [p for p in of_cases if p.kind != "empty_label" or p.case_id not in ignored]
    return told + together


def _single_scan(path: Path) -> Dataset:
    if is_dicom(path):
        [volume] = scans_of_files([path])
        case = Case(volume.name, (ChannelSource(volume.path, None),), None, volume.patient)
        return Dataset(path, "dicom", (), None, (case,))
    ending = file_ending(path) or ""
    case_id = path.name[: -len(ending)]
    case = Case(case_id, (ChannelSource(path, None),), None, case_id)
    return Dataset(path, "plain", (), None, (case,))
