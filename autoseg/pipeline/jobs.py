"""Jobs of training: what can be asked for, in which order it is done, and all that a job names."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import Fold
from autoseg.errors import AutosegError
from autoseg.lease import check_free, leased
from autoseg.pipeline.prepare import planned_dataset
from autoseg.planning.plan import Configuration, Plan
from autoseg.records import Record
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, FoldName, WorkFolder

if TYPE_CHECKING:
    from autoseg.training.state import SavedState, StateFiles


class Rank(Record):
    """Which process this is of those that train one model together, on all machines and on its own.

    `local_world_size` also counts processes that train other folds on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


class TrainJob(Record):
    """A fold to train, how long, from which model, and where; paths and names alone, so that it can
    be sent to any process or machine.

    It begins `anew` unless there is a training already, `resume`s one, or makes it `over`.
    """

    fold: FoldName
    work: Path = Path("autoseg_work")
    plan: str | None = None
    configuration: str | None = None
    budget: Budget = Budget()
    seed: int | None = None
    initial_model: Path | None = None
    device: str | None = None
    cache: Path | None = None  # where what was measured of a machine is kept
    start: Literal["anew", "resume", "over"] = "anew"
    rank: Rank = Rank()


def jobs_in_order(jobs: Sequence[TrainJob]) -> list[TrainJob]:
    """What to train, one after the other, so that all of the jobs can be.

    The second stage of a cascade learns from what the first one predicts for cases that it has not
    seen, so all folds of the first stage that are not finished come before it. Raises AutosegError
    for the first job that cannot be done, before any of them takes hours.
    """
    for job in jobs:
        _check_free(job)
        resolve_job(job)
    first = jobs[0]
    work = WorkFolder(first.work)
    plan = work.plan(first.plan)
    previous = plan.configuration(first.configuration).previous_stage
    if previous is None:
        return list(jobs)
    needed = []
    for fold in range(len(work.splits().folds)):
        folder = work.fold(plan.name, previous, fold)
        if folder.summary.exists():
            continue
        own = {"fold": fold, "configuration": previous, "initial_model": None, "start": "anew"}
        job = first.model_copy(update=own)
        if folder.resume.exists():  # goes on as it was begun
            as_begun = {"start": "resume", "seed": None, "budget": Budget()}
            job = job.model_copy(update=as_begun)
        _check_free(job)
        needed.append(job)
    return [*needed, *jobs]


@contextmanager
def held_fold(job: TrainJob) -> Iterator[None]:
    """Hold a fold's folder while its plan stays as it is; of several processes the first does.

    Raises AutosegError that names the living process which trains the fold, or changes the plan, or
    trains the second stage of a cascade with what would be overwritten.
    """
    if job.rank.rank:
        yield
        return
    work, plan, folder = _place(job)
    work.check_writable()
    with leased(work.fold_lease(plan.name, folder), str(folder.root)):
        _check_around(job, work, plan)
        yield


def _check_free(job: TrainJob) -> None:
    """Raises AutosegError as `held_fold` does, without holding anything."""
    work, plan, folder = _place(job)
    if job.rank.rank == 0:
        check_free(work.fold_lease(plan.name, folder), str(folder.root))
        _check_around(job, work, plan)


def _check_around(job: TrainJob, work: WorkFolder, plan: Plan) -> None:
    """Raises AutosegError while others change what the job needs, or need what it overwrites."""
    check_free(work.plan_lease(plan.name), str(work.plan_path(plan.name)))
    if job.start == "over":
        stage = plan.configuration(job.configuration).name
        for configuration in plan.configurations.values():
            if configuration.previous_stage == stage:
                work.check_not_training(plan.name, configuration.name)


def _place(job: TrainJob) -> tuple[WorkFolder, Plan, FoldFolder]:
    work = WorkFolder(job.work)
    plan = work.plan(job.plan)
    return work, plan, work.fold(plan.name, plan.configuration(job.configuration).name, job.fold)


@dataclass(frozen=True, slots=True)
class ResolvedJob:
    """All that a job names, looked up: nothing below asks the work folder again."""

    job: TrainJob
    work: WorkFolder
    plan: Plan
    planned: Configuration
    folder: FoldFolder
    dataset: Dataset
    split: Fold
    earlier: "SavedState | None"
    budget: Budget

    @property
    def dataset_is_away(self) -> bool:
        """Whether nothing but prepared cases is there."""
        return not self.dataset.cases[0].files()

    def folder_of_first_stage(self) -> FoldFolder | None:
        """This fold's model of the stage before, which has not seen the held-out cases either."""
        stage = self.planned.previous_stage
        return None if stage is None else self.work.fold(self.plan.name, stage, self.job.fold)


def resolve_job(job: TrainJob) -> ResolvedJob:
    """Look up what a job names. Raises AutosegError for what is not there, or cannot be begun."""
    work = WorkFolder(job.work)
    plan = work.plan(job.plan)
    planned = plan.configuration(job.configuration)
    work.check_fold(job.fold)
    folder = work.fold(plan.name, planned.name, job.fold)
    earlier = _earlier(job, planned, folder)
    dataset = planned_dataset(work, plan)
    length = job.budget.settled(planned.run.training)
    return ResolvedJob(
        job=job,
        work=work,
        plan=plan,
        planned=planned,
        folder=folder,
        dataset=dataset,
        split=work.fold_cases(dataset, job.fold),
        earlier=earlier,
        budget=earlier.budget if earlier and not job.budget.is_given else length,
    )


def _earlier(job: TrainJob, planned: Configuration, folder: FoldFolder) -> "SavedState | None":
    """The state of an earlier training of this fold to go on from; None to begin.

    Raises AutosegError when there is one, but the job says neither to resume nor to overwrite, when
    it was begun with another seed or plan, and when the model to start from is none.
    """
    from autoseg.checkpoint import read_card
    from autoseg.training.state import StateFiles

    if job.initial_model is not None:
        if job.start == "resume":
            raise AutosegError("--init begins a training, and --resume goes on with one: use one.")
        read_card(job.initial_model)
    states = StateFiles(folder.state, folder.previous_state)
    if job.start == "over" or not (states.exist() or folder.model.exists()):
        return None
    state = states.read() if job.start == "resume" else _left(job, planned, folder, states)
    if state is None:
        return None
    if job.seed not in (None, state.seed):
        raise AutosegError(
            f"--seed {job.seed}: this training was begun with seed {state.seed}. Leave --seed "
            "out to go on, or begin anew with --overwrite."
        )
    if state.planned != planned:
        raise AutosegError(
            f"{folder.root}: this training was begun with another plan. Train anew with "
            "--overwrite, or restore the plan."
        )
    return state


def _left(
    job: TrainJob, planned: Configuration, folder: FoldFolder, states: "StateFiles"
) -> "SavedState | None":
    """What the same command left that failed as it began, or before it had scored its model.

    Raises AutosegError for a training of which anything would be lost, or is asked for twice.
    """
    refusal = (
        f"{folder.root} already holds a training. Go on with --resume, or begin anew with "
        "--overwrite."
    )
    if not states.exist():  # a model alone
        raise AutosegError(refusal)
    try:
        state = states.read()
    except AutosegError as damage:
        raise AutosegError(f"{refusal} ({damage})") from None
    position, has_model = state.position, folder.model.exists()
    if position.iteration == 0 and not (has_model or folder.best.exists()):
        return None
    used = state.budget.fraction(position.iteration, position.elapsed_s)
    trained = used >= 1 or position.stopped_early
    complete = has_model and (job.fold is None or folder.summary.exists())
    if trained and not complete and job.budget.settled(planned.run.training) == state.budget:
        return state
    raise AutosegError(refusal)
