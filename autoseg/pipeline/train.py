"""Training: from a plan to models, each scored on its held-out cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.splits import Fold
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.evaluate import Evaluation, evaluate_pairs
from autoseg.machine import available_cores
from autoseg.parallel import Progress, silent
from autoseg.pipeline.cascade import with_previous_masks
from autoseg.pipeline.figures import WithFigures
from autoseg.pipeline.fitting import FoldRun, Place, caveats, fitted_run, memory_advice
from autoseg.pipeline.predict import MaskWriter, predict_cases
from autoseg.pipeline.prepare import in_memory_if_small, planned_dataset, prepared_cases
from autoseg.planning.plan import Configuration, Plan
from autoseg.preprocessing.store import StoredCase
from autoseg.records import Record, load_record, save_record
from autoseg.training.schedule import Budget
from autoseg.work_folder import FoldFolder, FoldName, WorkFolder

if TYPE_CHECKING:
    from autoseg.device import Device
    from autoseg.training.distributed import ProcessGroup
    from autoseg.training.job import Training
    from autoseg.training.metrics_log import TrainingListener
    from autoseg.training.state import SavedState

log = logging.getLogger(__name__)


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
    start: Literal["anew", "resume", "over"] = "anew"
    rank: Rank = Rank()


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold after training. `evaluation` is None when it was stopped, or holds no case out."""

    folder: Path
    iterations: int
    seconds: float
    finished: bool
    evaluation: Evaluation | None


def jobs_in_order(jobs: Sequence[TrainJob]) -> list[TrainJob]:
    """What to train, one after the other, so that all of the jobs can be.

    The second stage of a cascade learns from what the first one predicts for cases that it has not
    seen, so all folds of the first stage that are not finished come before it. Raises AutosegError
    for the first job that cannot be done, before any of them takes hours.
    """
    for job in jobs:
        _resolved(job)
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
        needed.append(job)
    return [*needed, *jobs]


@dataclass(frozen=True, slots=True)
class _Resolved:
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

    def folder_of_first_stage(self) -> FoldFolder | None:
        """This fold's model of the stage before, which has not seen the held-out cases either."""
        stage = self.planned.previous_stage
        return None if stage is None else self.work.fold(self.plan.name, stage, self.job.fold)

    def finished(self) -> FoldResult | None:
        """The outcome of a training that has nothing left to do."""
        folder, earlier = self.folder, self.earlier
        if earlier is None or not (folder.model.exists() and folder.summary.exists()):
            return None
        position = earlier.position
        done = self.budget.fraction(position.iteration, position.elapsed_s) >= 1
        if not done and not position.stopped_early:
            return None
        evaluation = load_record(Evaluation, folder.summary)
        return FoldResult(folder.root, position.iteration, position.elapsed_s, True, evaluation)


def _resolved(job: TrainJob) -> _Resolved:
    """Look up what a job names. Raises AutosegError for what is not there, or cannot be begun."""
    work = WorkFolder(job.work)
    plan = work.plan(job.plan)
    planned = plan.configuration(job.configuration)
    work.check_fold(job.fold)
    folder = work.fold(plan.name, planned.name, job.fold)
    earlier = _earlier(job, planned, folder)
    dataset = planned_dataset(work, plan)
    length = job.budget.settled(planned.run.training)
    return _Resolved(
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
    if job.start == "anew":
        raise AutosegError(
            f"{folder.root} already holds a training. Go on with --resume, or begin anew with "
            "--overwrite."
        )
    state = states.read()
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


def train_fold(
    job: TrainJob, listener: "TrainingListener", stop: Event, progress: Progress = silent
) -> FoldResult:
    """Prepare what is missing, train one fold, save its model, score its held-out cases in full.

    Of several processes that train together the main one does all but the training alone.
    """
    # torch takes seconds to import; only these stages need it.
    from autoseg.checkpoint import save_model
    from autoseg.training.bookkeeping import card_at
    from autoseg.training.distributed import join_group
    from autoseg.training.trainer import train_model

    found = _resolved(job)
    group = join_group(job.rank.rank, job.rank.world_size)
    if (finished := found.finished()) is not None:
        return finished
    device = _device(job)
    group.share(found.planned.run.batch_size)
    fold = f"fold {job.fold} of {found.planned.name}"
    group.main_alone(lambda: _make_ready(found, device, group, progress), f"preparing {fold}")
    training = _training(found, device, group, progress)
    if found.earlier is None and group.is_main:  # now that all is ready for another one
        found.folder.clear()
    shown = WithFigures(listener, found.folder)
    try:
        network, position = train_model(training, shown, stop, resume=found.earlier is not None)
    except (RuntimeError, MemoryError) as error:
        explanation = memory_advice(error, training.configuration, found.plan.labels)
        if explanation is None:
            raise
        raise AutosegError(explanation) from error
    (stopped,) = group.broadcast(float(stop.is_set()))
    result = FoldResult(
        found.folder.root, position.iteration, position.elapsed_s, not stopped, None
    )
    if stopped:  # all processes, when the main one is told to
        stop.set()
        return result
    evaluations: list[Evaluation | None] = []

    def finish() -> None:
        found.folder.summary.unlink(missing_ok=True)  # of an earlier model
        save_model(found.folder.model, network, card_at(training, position))
        evaluations.append(validate_fold(found, progress))

    group.main_alone(finish, f"scoring {fold}")
    return replace(result, evaluation=evaluations[0]) if evaluations else result


def _device(job: TrainJob) -> "Device":
    """The device that was asked for; of several processes on a machine each has its own GPU."""
    from autoseg.device import TORCH_KINDS, choose_device, gpus, use_device

    name = job.device
    if job.rank.world_size > 1 and gpus() and name in (None, "gpu", TORCH_KINDS["gpu"]):
        name = f"gpu:{job.rank.local_rank}"
    device = choose_device(name)
    use_device(device)
    return device


def _make_ready(
    found: _Resolved, device: "Device", group: "ProcessGroup", progress: Progress
) -> None:
    """What one process does for all: what this machine trains, and the cases that are missing."""
    if found.earlier is None:
        fitted = _fitted(found, device)
        for change in fitted.changes:
            log.warning("%s: %s.", found.planned.name, change)
        save_record(fitted, found.folder.run)
    _stored(found, progress)


def _fitted(found: _Resolved, device: "Device") -> FoldRun:
    plan, rank = found.plan, found.job.rank
    if device.kind != plan.machine.device:
        log.warning(
            "The plan is for a %s, but this machine will train on its %s. To plan for it: "
            "autoseg plan %s --name here",
            plan.machine.device,
            device.kind,
            found.dataset.root,
        )
        return FoldRun(configuration=found.planned)
    here = rank.local_world_size if device.kind == "cpu" else 1  # of those that share its memory
    expected = plan.expected[found.planned.name]
    return fitted_run(found.planned, plan.labels, expected, Place(device, rank.world_size, here))


def _stored(found: _Resolved, progress: Progress) -> dict[str, StoredCase]:
    """The fold's cases, prepared and opened, with the masks of the previous stage if there is
    one."""
    case_ids = (*found.split.train, *found.split.validation)
    stored = prepared_cases(found.work, found.planned.grid, found.dataset, case_ids, progress)
    if found.planned.previous_stage is not None:
        stored = with_previous_masks(found.work, found.plan, found.planned, stored)
    return stored


def _training(
    found: _Resolved, device: "Device", group: "ProcessGroup", progress: Progress
) -> "Training":
    """Everything that the training needs, opened in this process."""
    from autoseg.checkpoint import ModelCard
    from autoseg.training.job import Training

    job, split, earlier = found.job, found.split, found.earlier
    if earlier is None:
        configuration = load_record(FoldRun, found.folder.run).configuration
    else:
        configuration = earlier.configuration
    _warn_of_options(configuration, found.plan.labels, bool(split.validation))
    cases = _stored(found, progress)
    if configuration.run.training.augment_on == "device":  # other processes open them again
        cases = in_memory_if_small(cases, job.rank.local_world_size)
    return Training(
        card=ModelCard(
            plan_name=found.plan.name,
            configuration=configuration,
            labels=found.plan.labels,
            channel_names=found.plan.channel_names,
            fold=job.fold,
            trained_cases=len(split.train),
            trained_iterations=0,
            trained_seconds=0.0,
            held_out=split.validation,
        ),
        planned=found.planned,
        train_cases={case_id: cases[case_id] for case_id in split.train},
        validation_cases={case_id: cases[case_id] for case_id in split.validation},
        budget=found.budget,
        folder=found.folder,
        device=device,
        threads=max(1, available_cores() // job.rank.local_world_size - 1),
        seed=earlier.seed if earlier else job.seed or 0,
        initial_model=job.initial_model,
        group=group,
    )


def _warn_of_options(configuration: Configuration, labels: LabelScheme, holds_out: bool) -> None:
    """Say which options do nothing, or not all that one would think."""
    run, options = configuration.run, configuration.run.training
    if not holds_out and (options.early_stop_epochs or options.keep_best):
        log.warning("No case is held out, so training.early_stop_epochs and keep_best do nothing.")
    if options.accumulated_batches > 1 and (differs := caveats(run, labels)):
        log.warning(
            "Batches of %d, %d samples to a step: %s.", run.batch_size, run.step_samples, differs
        )


def validate_fold(found: _Resolved, progress: Progress = silent) -> Evaluation | None:
    """Predict a fold's held-out cases in full, as `predict` does, and score them."""
    from autoseg.inference.predictor import Predictor

    held_out = [case for case in found.dataset.cases if case.case_id in found.split.validation]
    if not held_out:
        return None
    first = found.folder_of_first_stage()
    models = [found.folder.model, *([] if first is None else [first.model])]
    predictor = Predictor.load(models, found.job.device)
    writer = MaskWriter(found.folder.validation)
    _, problems = predict_cases(predictor, held_out, writer, progress)
    raise_if_any(problems, "Held-out scans could not be segmented")
    pairs = {
        case.case_id: (found.folder.mask(case.case_id), case.label)
        for case in held_out
        if case.label is not None
    }
    evaluation = evaluate_pairs(pairs, found.plan.labels, 1, progress)
    save_record(evaluation, found.folder.summary)
    return evaluation
