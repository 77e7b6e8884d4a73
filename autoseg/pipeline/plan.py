"""Looking and deciding: from a dataset to a checked, measured and explained plan."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from pydantic import Field

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.layouts.recognition import survey_dataset
from autoseg.dataset.problems import Problem, raise_errors
from autoseg.errors import AutosegError
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.fingerprint import Fingerprint, pool_fingerprint
from autoseg.lease import leased
from autoseg.machine import ANY_GPU, Machine, machine_for, machine_without_gpu, may_have_gpu
from autoseg.parallel import Progress, silent
from autoseg.pipeline.check import all_problems
from autoseg.pipeline.fitting import (
    beside_smaller,
    measured_as_it_is,
    measured_plan,
    plan_within,
    usable_memory_gib,
)
from autoseg.pipeline.keeping import (
    check_contents,
    is_elsewhere,
    keep_or_make_splits,
    make_way_for,
    tell_of_other_folds,
)
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.likeness import plan_like
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Plan
from autoseg.planning.planner import expected_anew
from autoseg.planning.rules import load_rule_set
from autoseg.records import Record
from autoseg.work_folder import WorkFolder, WorkState

if TYPE_CHECKING:
    from autoseg.checkpoint import ModelCard


class PlanJob(Record):
    """What to plan, and what a user may say about it; None leaves it to autoseg.

    `target` is a machine to plan for; `hours` how long a fold may train. `like` is a model whose
    grid, normalisation, patch and network are kept. `measure` runs a training step on this machine,
    and corrects what does not fit. `settings` are values that are set by hand, as `key=value`.
    """

    dataset: Path
    work: Path = Path("autoseg_work")
    rules: str | None = None
    target: str | None = None
    hours: float | None = Field(default=None, gt=0)
    name: str | None = None
    like: Path | None = None
    measure: bool = False
    overwrite: bool = False
    settings: tuple[str, ...] = ()

    @property
    def decides_nothing(self) -> bool:
        """Whether nothing is said but which dataset, so that a plan that is there will do."""
        return self == PlanJob(dataset=self.dataset, work=self.work, overwrite=self.overwrite)


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """A plan, what it was made from, and what `check` had to say that is no error."""

    dataset: Dataset
    plan: Plan
    fingerprint: Fingerprint
    problems: tuple[Problem, ...]


def plan_dataset(job: PlanJob, workers: int, progress: Progress = silent) -> PlanOutcome:
    """Check a dataset, decide everything, and save fingerprint, splits and plan.

    Where the work folder's dataset only moved, and nothing else is asked for, its plan is kept.
    Raises AutosegError when the dataset has errors, or the work folder belongs to another one, or
    holds models of another plan of this name, or while that plan is being trained.
    """
    work = WorkFolder(job.work)
    work.check_writable()
    dataset, problems = survey_dataset(job.dataset)
    _check_request(job, work)
    elsewhere = is_elsewhere(work, dataset)
    fails = any(problem.severity == "error" for problem in problems)
    with _torch_loading(_asks_torch(job) and not fails):
        card = _card(job.like) if job.like else None
        inspections = inspect_cases(dataset, dataset.cases, work.inspections, workers, progress)
        problems += all_problems(dataset, inspections)
        raise_errors(problems, f"{dataset.root}: the dataset cannot be planned for as it is")
        fingerprint = pool_fingerprint(dataset, inspections)
    if elsewhere:
        check_contents(work, dataset, fingerprint)
    if elsewhere and job.decides_nothing and not job.overwrite:
        plan = _keep_plan(work, dataset)
        return PlanOutcome(dataset, plan, fingerprint, tuple(problems))
    inputs = _inputs(job, fingerprint)
    with _held_plan(work, job.name or inputs.rules.name):
        plan = _decide(inputs, job, card)
        outcome = PlanOutcome(dataset, plan, fingerprint, tuple(problems))
        _save(work, outcome, inputs.machine, job.overwrite)
    return outcome


@contextmanager
def _held_plan(work: WorkFolder, name: str) -> Iterator[None]:
    """Hold a plan. Raises AutosegError while somebody else does, or trains with it."""
    with leased(work.plan_lease(name), str(work.plan_path(name))):
        work.check_not_training(name)
        yield


def _keep_plan(work: WorkFolder, dataset: Dataset) -> Plan:
    """The current plan, whose dataset lies elsewhere now."""
    plan = work.plan(None)
    with _held_plan(work, plan.name):
        place = {"dataset": work.place_of(dataset.root), "layout": dataset.layout}
        work.save_state(work.state().model_copy(update=place))
    if work.has_splits():
        tell_of_other_folds(work, dataset)
    return plan


def _save(work: WorkFolder, outcome: PlanOutcome, machine: Machine, overwrite: bool) -> None:
    dataset, plan, fingerprint = outcome.dataset, outcome.plan, outcome.fingerprint
    make_way_for(work, plan, overwrite)
    keep_or_make_splits(work, dataset, fingerprint, overwrite)
    work.save_fingerprint(fingerprint)
    work.save_plan(plan)
    state = WorkState(
        dataset=work.place_of(dataset.root),
        layout=dataset.layout,
        machine=machine,
        current_plan=plan.name,
    )
    work.save_state(state)


def _check_request(job: PlanJob, work: WorkFolder) -> None:
    if work.is_planned() and not job.overwrite:
        work.state()  # which another version of autoseg may have made
    if job.name is not None and not re.fullmatch(r"[\w.-]*\w", job.name):
        raise AutosegError(f"--name {job.name}: use letters, digits, dots, _ and - only.")
    if job.rules:
        load_rule_set(job.rules)
    if job.target and job.measure:
        usable_memory_gib(machine_for(job.target))  # refuses one that is elsewhere
    elif job.target:
        machine_for(job.target)


@contextmanager
def _torch_loading(wanted: bool) -> Iterator[None]:
    """Load torch, which takes seconds, beside reading scans."""
    loading = Thread(target=_load_torch)
    if wanted:
        loading.start()
    try:
        yield
    finally:  # a program that ends while modules are loaded would say so in a traceback
        if wanted:
            loading.join()


def _load_torch() -> None:
    import autoseg.device  # noqa: F401


def _asks_torch(job: PlanJob) -> bool:
    """Whether a job is about more than the numbers of a plan: this machine's GPU, or weights."""
    return job.measure or job.like is not None or (job.target is None and may_have_gpu())


def _inputs(job: PlanJob, fingerprint: Fingerprint) -> PlanningInputs:
    from autoseg.networks import family_of

    machine = machine_for(job.target) if job.target else _machine_here()
    rules = load_rule_set(job.rules or ("cpu" if machine.gpu_name is None else "default"))
    inputs = PlanningInputs(fingerprint, rules, machine, family_of)
    return replace(inputs, hours_given=job.hours is not None)


def _decide(inputs: PlanningInputs, job: PlanJob, card: "ModelCard | None") -> Plan:
    plan, inputs = plan_within(_with_rate(inputs), job.name, job.hours)
    if card is not None:
        plan = plan_like(card.configuration, str(job.like), plan, inputs)
    if job.settings:
        plan = with_settings(plan, job.settings, inputs.families)
        plan = expected_anew(plan, inputs)
    by_hand = card is not None or bool(job.settings)  # then the patch is given, or may be
    if not job.measure:
        return plan if by_hand else beside_smaller(plan, inputs)
    from autoseg.device import choose_device

    device = choose_device(plan.machine.device)
    if by_hand:
        return measured_as_it_is(plan, device)
    return measured_plan(plan, inputs, device, job.hours)


def _with_rate(inputs: PlanningInputs) -> PlanningInputs:
    """What is known to be computed in a second on this machine, if it is the one planned for."""
    if inputs.machine.gpu_name is None or inputs.machine.gpu_name == ANY_GPU:
        return inputs
    from autoseg.device import choose_device
    from autoseg.training.measure import measured_rate

    return replace(inputs, rate=measured_rate(choose_device("gpu")))


def _machine_here() -> Machine:
    if not may_have_gpu():
        return machine_without_gpu()
    from autoseg.device import choose_device, machine_of  # torch takes seconds to import

    return machine_of(choose_device())


def _card(path: Path) -> "ModelCard":
    from autoseg.checkpoint import read_card  # torch takes seconds to import

    return read_card(path)
