"""Looking and deciding: from a dataset to a checked, measured and explained plan."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.dataset.dataset import Case, ChannelSource, Dataset, Problem, raise_errors
from autoseg.dataset.layouts import survey_dataset
from autoseg.errors import AutosegError
from autoseg.images.volume import file_ending
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.case import Inspection
from autoseg.inspection.consistency import CheckReport, dataset_problems
from autoseg.inspection.fingerprint import Fingerprint, pool_fingerprint
from autoseg.inspection.repair import Repair, write_repaired
from autoseg.machine import Machine, detect_machine, machine_for
from autoseg.parallel import Progress, silent
from autoseg.pipeline.measuring import measured_plan, plan_that_fits, usable_memory_gib
from autoseg.planning.expectation import PUBLISHED_GIB_PER_ELEMENT, expectation
from autoseg.planning.likeness import plan_like
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import RuleSet, load_rule_set
from autoseg.work_folder import WorkFolder, WorkState

if TYPE_CHECKING:
    from autoseg.checkpoint import ModelCard


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a user may say about planning; None leaves it to autoseg.

    `like` is a model whose grid, normalisation, patch and network are kept. `measure` runs a
    training step on this machine, and corrects what does not fit. `settings` are values that are
    set by hand, as `key=value`.
    """

    rules: str | None = None
    target: str | None = None
    name: str | None = None
    like: Path | None = None
    measure: bool = False
    overwrite: bool = False
    settings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """A plan, what it was made from, and what `check` had to say that is no error."""

    dataset: Dataset
    plan: Plan
    fingerprint: Fingerprint
    problems: tuple[Problem, ...]


def plan_dataset(
    dataset_path: Path,
    work: WorkFolder,
    request: PlanRequest,
    workers: int,
    progress: Progress = silent,
) -> PlanOutcome:
    """Check a dataset, decide everything, and save fingerprint, splits and plan.

    Raises AutosegError when the dataset has errors, or the work folder belongs to another one, or
    holds models of another plan of this name.
    """
    dataset, problems = survey_dataset(dataset_path)
    root = str(dataset.root.resolve())
    if work.is_planned() and work.state().dataset != root:
        raise AutosegError(
            f"{work.root} belongs to the dataset {work.state().dataset}. Choose another work "
            "folder with --work, or delete this one."
        )
    if request.name is not None and not re.fullmatch(r"[\w.-]*\w", request.name):
        raise AutosegError(f"--name {request.name}: use letters, digits, dots, _ and - only.")
    machine = machine_for(request.target) if request.target else detect_machine()
    rule_set = load_rule_set(request.rules or ("cpu" if machine.gpu_name is None else "default"))
    card = _card(request.like) if request.like else None
    inspections = inspect_cases(dataset, dataset.cases, work.inspections, workers, progress)
    problems += _all_problems(dataset, inspections)
    raise_errors(problems, f"{dataset.root}: the dataset cannot be planned for as it is")
    fingerprint = pool_fingerprint(dataset, inspections)
    plan = _decide(fingerprint, rule_set, machine, request, card)
    work.make_way_for(plan, request.overwrite)
    work.keep_or_make_splits(dataset, fingerprint, request.overwrite)
    work.save_fingerprint(fingerprint)
    work.save_plan(plan)
    work.save_state(
        WorkState(dataset=root, layout=dataset.layout, machine=machine, current_plan=plan.name)
    )
    return PlanOutcome(dataset, plan, fingerprint, tuple(problems))


def write_plan_report(outcome: PlanOutcome, path: Path) -> None:
    """Show a dataset and its plan in pictures, as one HTML file."""
    from autoseg.reporting.dataset_report import DatasetReport, write_dataset_report
    from autoseg.reporting.examples import example_scans

    report = DatasetReport(
        title=f"{outcome.dataset.root.name}: {outcome.plan.name}",
        plan=outcome.plan,
        fingerprint=outcome.fingerprint,
        problems=outcome.problems,
        examples=example_scans(outcome.dataset, outcome.fingerprint),
    )
    write_dataset_report(report, path)


def check_dataset(
    path: Path, fix: Path | None, workers: int, progress: Progress = silent
) -> tuple[CheckReport, list[Repair]]:
    """Read every file of a dataset, or a single scan, once, and report all that is wrong.

    With `fix`, a corrected copy is written there, and what was changed or left out is returned too.
    Raises AutosegError when no dataset is recognised.
    """
    if path.is_file() and file_ending(path):
        if fix is not None:
            raise AutosegError(f"{path}: --fix corrects datasets, and this is a single scan.")
        dataset, problems = _single_scan(path), list[Problem]()
    else:
        dataset, problems = survey_dataset(path)
    tests = inspect_cases(dataset, dataset.test_cases, None, workers, progress)
    trained = inspect_cases(dataset, dataset.cases, None, workers, progress)
    for inspection in tests.values():
        problems += inspection.problems
    problems += _all_problems(dataset, tests | trained)
    report = CheckReport(
        dataset=str(path),
        cases=len(dataset.cases) + len(dataset.test_cases),
        problems=tuple(dict.fromkeys(problems)),
    )
    if fix is None:
        return report, []
    return report, write_repaired(dataset, problems, fix, workers, progress)


def _all_problems(dataset: Dataset, inspections: dict[str, Inspection]) -> list[Problem]:
    of_cases = [p for inspection in inspections.values() for p in inspection.problems]
    return of_cases + dataset_problems(dataset, inspections)


def _single_scan(path: Path) -> Dataset:
    ending = file_ending(path) or ""
    case_id = path.name[: -len(ending)]
    case = Case(case_id, (ChannelSource(path, None),), None, case_id)
    return Dataset(path, "plain", (), None, (case,))


def _decide(
    fingerprint: Fingerprint,
    rules: RuleSet,
    machine: Machine,
    request: PlanRequest,
    card: "ModelCard | None",
) -> Plan:
    plan = make_plan(fingerprint, rules, machine, request.name)
    if card is not None:
        assert request.like is not None
        plan = plan_like(card.configuration, str(request.like), plan, fingerprint)
    if request.settings:
        plan = _expected_anew(with_settings(plan, request.settings), fingerprint)
    if card is not None or request.settings:  # the patch is given, or may be
        if not request.measure:
            return plan
        usable_gib = usable_memory_gib(plan.machine)
        return plan_that_fits(plan, plan.recommended, usable_gib, always=True)
    return measured_plan(plan, fingerprint, rules, request.name) if request.measure else plan


def _expected_anew(plan: Plan, fingerprint: Fingerprint) -> Plan:
    """The plan with estimates of what it takes, after values were set by hand."""
    decisions = []
    for decision in plan.decisions:
        if decision.name == "expectation" and decision.configuration is not None:
            configuration = plan.configurations[decision.configuration]
            decision = expectation(
                configuration, fingerprint, plan.machine, PUBLISHED_GIB_PER_ELEMENT
            )
        decisions.append(decision)
    return plan.model_copy(update={"decisions": tuple(decisions)})


def _card(path: Path) -> "ModelCard":
    from autoseg.checkpoint import read_card  # torch takes seconds to import

    return read_card(path)
