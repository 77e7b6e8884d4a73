"""Preparing: scans on a plan's grid, as many at once as memory allows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.errors import AutosegError
from autoseg.machine import GIB, available_cores, free_memory_gib, machine_without_gpu
from autoseg.parallel import MemoryBudget, Progress, silent
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.plan import Plan
from autoseg.preprocessing.parts import DamagedCaseError
from autoseg.preprocessing.prepare import (
    Target,
    expected_memory_gib,
    preparation_hash,
    prepare_cases,
)
from autoseg.preprocessing.store import SUFFIX, StoredCase, is_stored, open_case, verify_case
from autoseg.work_folder import WorkFolder

log = logging.getLogger(__name__)

FREE_MEMORY_FRACTION = 0.75
CASES_MEMORY_FRACTION = 0.25  # prepared cases are held in memory when they fit into this


@dataclass(frozen=True, slots=True)
class Resources:
    """Processes to use, and memory for all of them; None is three quarters of what is free."""

    workers: int
    memory_gib: float | None = None


def prepare(
    work: WorkFolder,
    plan_name: str | None,
    configuration_names: Sequence[str],
    resources: Resources,
    progress: Progress = silent,
) -> tuple[int, list[Path]]:
    """Prepare what is missing for a plan; how many cases that was, and where they are.

    Without names the recommended configuration is prepared.
    """
    plan = work.plan(plan_name)
    work.check_writable()
    dataset = planned_dataset(work, plan)
    targets = [
        _target(work, plan.configuration(name).grid, plan.labels)
        for name in configuration_names or [plan.recommended]
    ]
    done = _prepare(work, dataset, dataset.cases, targets, resources, progress)
    return done, [target.folder for target in targets]


def remove_damaged(
    work: WorkFolder,
    plan_name: str | None,
    configuration_names: Sequence[str],
    progress: Progress = silent,
) -> tuple[int, int]:
    """Check all bytes of what is prepared for a plan and delete what is damaged.

    How many files were checked, and how many of them were damaged. The masks of a previous stage
    are checked too; training makes them again.
    """
    plan = work.plan(plan_name)
    folders = []
    for name in configuration_names or [plan.recommended]:
        configuration = plan.configuration(name)
        folders.append(_target(work, configuration.grid, plan.labels).folder)
        if configuration.previous_stage is not None:
            folders.append(work.previous_masks(plan.name, configuration.name))
    paths = [
        path for folder in dict.fromkeys(folders) for path in sorted(folder.glob(f"*{SUFFIX}"))
    ]
    damaged = 0
    for done, path in enumerate(paths, 1):
        try:
            verify_case(path)
        except DamagedCaseError as damage:
            log.warning("%s", damage)
            path.unlink(missing_ok=True)
            damaged += 1
        progress(done, len(paths), "checking prepared cases")
    return len(paths), damaged


def _prepare(
    work: WorkFolder,
    dataset: Dataset,
    cases: Sequence[Case],
    targets: Sequence[Target],
    resources: Resources,
    progress: Progress,
) -> int:
    """Prepare what is missing of some cases, as many at once as memory allows."""
    assert dataset.labels is not None
    _check_sources(dataset, cases, targets)
    stats = {case.case_id: case for case in work.fingerprint().cases}
    channels = len(dataset.channel_names)
    needs_gib = {
        case.case_id: expected_memory_gib(stats[case.case_id], channels, targets) for case in cases
    }
    total_gib = resources.memory_gib or FREE_MEMORY_FRACTION * free_memory_gib()
    budget = MemoryBudget(total_gib, needs_gib)
    return prepare_cases(cases, dataset.labels, targets, resources.workers, progress, budget)


def _target(work: WorkFolder, grid: GridPlan, labels: LabelScheme) -> Target:
    return Target(grid, work.prepared(preparation_hash(grid, labels)))


def _check_sources(dataset: Dataset, cases: Sequence[Case], targets: Sequence[Target]) -> None:
    """Raises AutosegError where the dataset is away, and not all that is needed of it is stored."""
    missing = [
        case.case_id
        for case in cases
        if not case.files() and not all(is_stored(t.path(case.case_id), ()) for t in targets)
    ]
    if missing:
        raise AutosegError(
            f"{dataset.root}: the dataset is not there any more, and {len(missing)} of "
            f"{len(cases)} cases are not prepared yet ({', '.join(missing[:5])}). Put it back, or "
            "say where it lies now: autoseg plan NEW_PLACE, which keeps the plan, folds and models."
        )


def planned_dataset(work: WorkFolder, plan: Plan) -> Dataset:
    """The dataset as it is now; where it is away, its cases have no files.

    Raises AutosegError when it is no longer what was planned for.
    """
    work.state()
    root = work.dataset()
    assert root is not None
    if is_away(root):
        return _remembered(work, plan, root)
    dataset = open_dataset(root, plan.labels)
    if (dataset.labels, dataset.channel_names) != (plan.labels, plan.channel_names):
        raise AutosegError(
            f"{dataset.root}: its labels or channels are not those of plan {plan.name!r} any more. "
            "Plan again."
        )
    here = {case.case_id for case in dataset.cases}
    planned = {case.case_id for case in work.fingerprint().cases}
    changes = [
        f"{', '.join(sorted(cases)[:5])} {what}"
        for cases, what in ((here - planned, "came after planning"), (planned - here, "is gone"))
        if cases
    ]
    if changes:
        raise AutosegError(
            f"{dataset.root}: {'; '.join(changes)}. Put files back as they were, or plan again "
            "with --overwrite for new folds."
        )
    return dataset


def is_away(root: Path) -> bool:
    """Whether a dataset was moved, or its disk is not mounted."""
    return not root.exists() or (root.is_dir() and not any(root.iterdir()))


def _remembered(work: WorkFolder, plan: Plan, root: Path) -> Dataset:
    """A dataset as it was planned for, without files."""
    cases = tuple(Case(c.case_id, (), None, c.patient_id) for c in work.fingerprint().cases)
    return Dataset(root, work.state().layout, plan.channel_names, plan.labels, cases)


def prepared_cases(
    work: WorkFolder,
    grid: GridPlan,
    dataset: Dataset,
    case_ids: Sequence[str],
    progress: Progress,
) -> dict[str, StoredCase]:
    """Prepare what is missing of some cases, and open them."""
    assert dataset.labels is not None
    target = _target(work, grid, dataset.labels)
    cases = [case for case in dataset.cases if case.case_id in set(case_ids)]
    _prepare(work, dataset, cases, [target], Resources(available_cores()), progress)
    return {case.case_id: open_case(target.path(case.case_id)) for case in cases}


def in_memory_if_small(cases: dict[str, StoredCase], processes: int) -> dict[str, StoredCase]:
    """Cases with all their voxels in memory, where that takes little of it in all processes."""
    allowed = machine_without_gpu().memory_gib * GIB * CASES_MEMORY_FRACTION / processes
    if sum(case.bytes_in_memory for case in cases.values()) >= allowed:
        return cases
    return {case_id: case.loaded() for case_id, case in cases.items()}
