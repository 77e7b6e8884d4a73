"""Training: from a plan to models, each scored on its held-out cases."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import Fold
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.evaluate import Evaluation, evaluate_pairs
from autoseg.machine import available_cores, detect_machine
from autoseg.parallel import Progress, silent
from autoseg.pipeline.cascade import with_previous_masks
from autoseg.pipeline.measuring import (
    TORCH_DEVICES,
    memory_advice,
    plan_that_fits,
    usable_memory_gib,
)
from autoseg.pipeline.pictures import WithPictures
from autoseg.pipeline.predict import PROVENANCE, MaskWriter, predict_cases
from autoseg.pipeline.prepare import in_memory_if_small, planned_dataset, prepared_cases
from autoseg.planning.plan import Configuration, ConfigurationName, Plan, TrainingPlan
from autoseg.preprocessing.store import StoredCase
from autoseg.records import load_record, save_record
from autoseg.training.schedule import PLANNED, Budget, Length, make_budget
from autoseg.work_folder import FoldName, WorkFolder

if TYPE_CHECKING:
    from autoseg.device import Device
    from autoseg.training.distributed import Team
    from autoseg.training.metrics_log import TrainingListener
    from autoseg.training.state import SavedState
    from autoseg.training.trainer import TrainingJob

log = logging.getLogger(__name__)

MODEL, SUMMARY = "model.safetensors", "validation/summary.json"


@dataclass(frozen=True, slots=True)
class Launch:
    """Which process this is of those that train together, on all machines and on its own.

    `local_size` also counts processes that train other folds on this machine at the same time.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


ALONE = Launch()


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Which fold to train, how long, from which model, and where."""

    fold: FoldName
    plan_name: str | None = None
    configuration: str | None = None
    length: Length = PLANNED
    seed: int | None = None
    initial_model: Path | None = None
    device: str | None = None
    resume: bool = False
    overwrite: bool = False
    launch: Launch = ALONE


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold after training. `evaluation` is None when it was stopped, or holds no case out."""

    folder: Path
    iterations: int
    seconds: float
    finished: bool
    evaluation: Evaluation | None


def training_order(work: WorkFolder, requests: Sequence[TrainRequest]) -> list[TrainRequest]:
    """What to train, one after the other, so that all of the requests can be.

    The second stage of a cascade learns from what the first one predicts for cases that it has not
    seen, so all folds of the first stage that are not finished come before it.
    """
    first = requests[0]
    plan = work.plan(first.plan_name)
    previous = plan.configuration(first.configuration).previous_stage
    if previous is None:
        return list(requests)
    needed = []
    for fold in range(len(work.splits().folds)):
        folder = work.fold(plan.name, previous, fold)
        if not (folder / SUMMARY).exists():
            stage = replace(first, fold=fold, configuration=previous, overwrite=False)
            if (folder / "resume").exists():  # goes on as it was begun
                stage = replace(stage, resume=True, seed=None, length=PLANNED)
            needed.append(replace(stage, initial_model=None))
    return [*needed, *requests]


@dataclass(frozen=True, slots=True)
class FoldTask:
    """One fold of a plan to train, with the cases on both sides of its split."""

    work: WorkFolder
    plan: Plan
    request: TrainRequest
    dataset: Dataset
    split: Fold

    @property
    def configuration(self) -> Configuration:
        return self.plan.configuration(self.request.configuration)

    @property
    def folder(self) -> Path:
        return self.folder_of(self.configuration.name)

    def folder_of(self, stage: ConfigurationName) -> Path:
        """Where this fold's model of a configuration is."""
        return self.work.fold(self.plan.name, stage, self.request.fold)


def train_fold(
    work: WorkFolder,
    request: TrainRequest,
    listener: "TrainingListener",
    stop: Event,
    progress: Progress = silent,
) -> FoldResult:
    """Prepare what is missing, train one fold, save its model, score its held-out cases in full.

    Of several processes that train together the first one does all but the training alone.
    """
    # torch takes seconds to import; only these stages need it.
    from autoseg.checkpoint import save_model
    from autoseg.training.distributed import join_team
    from autoseg.training.trainer import train_model

    team = join_team(request.launch.rank, request.launch.size)
    plan = work.plan(request.plan_name)
    dataset = planned_dataset(work, plan)
    task = FoldTask(work, plan, request, dataset, work.fold_cases(dataset, request.fold))
    earlier = earlier_training(work, request)
    budget = _budget(task.configuration.training, request, earlier)
    finished = _finished(task.folder, budget, earlier)
    if finished is not None:
        return finished
    device = _device(request)
    if earlier is None:
        task = _fitting(task, device, team)
    cases = _cases(task, team, progress)
    if team.leads and earlier is None:
        _clear(task.folder)
    task.folder.mkdir(parents=True, exist_ok=True)
    job = replace(_job(task, cases, budget, device, earlier), team=team)
    shown = WithPictures(listener, task.folder)
    try:
        network, position = train_model(job, shown, stop, resume=earlier is not None)
    except (RuntimeError, MemoryError) as error:
        explanation = memory_advice(error, task.configuration)
        if explanation is None:
            raise
        raise AutosegError(explanation) from error
    (stopped,) = team.agree(float(stop.is_set()))
    if stopped:  # all processes of a team, when the first one is told to
        stop.set()
    evaluation = None
    if team.leads and not stopped:
        (task.folder / SUMMARY).unlink(missing_ok=True)  # of an earlier model
        save_model(task.folder / MODEL, network, job.card_at(position))
        evaluation = validate_fold(task, progress)
    team.wait()
    if stopped:
        return FoldResult(task.folder, position.iteration, position.elapsed_s, False, None)
    return FoldResult(task.folder, position.iteration, position.elapsed_s, True, evaluation)


def _device(request: TrainRequest) -> "Device":
    """The device that was asked for; of several processes on a machine each has its own GPU."""
    import torch

    from autoseg.device import choose_device

    name = request.device
    shared = request.launch.size > 1 and torch.cuda.is_available()
    if shared and name in (None, "cuda"):
        name = f"cuda:{request.launch.local_rank}"
    device = choose_device(name)
    if device.torch_device.type == "cuda":
        torch.cuda.set_device(device.torch_device)
        torch.backends.cudnn.benchmark = True  # every batch has one shape
    return device


def _fitting(task: FoldTask, device: "Device", team: "Team") -> FoldTask:
    """The task with a plan that fits this machine; the first process of a team decides."""
    if team.leads:
        _plan_for_device(task, device.torch_device.type)
    team.wait()
    return replace(task, plan=task.work.plan(task.request.plan_name))


def fit_plan(work: WorkFolder, request: TrainRequest) -> None:
    """Make the batch of a request's plan fit into this machine's memory, before folds share it."""
    plan = work.plan(request.plan_name)
    dataset = planned_dataset(work, plan)
    task = FoldTask(work, plan, request, dataset, work.fold_cases(dataset, request.fold))
    if earlier_training(work, request) is None:
        _plan_for_device(task, _device(request).torch_device.type)


def _cases(task: FoldTask, team: "Team", progress: Progress) -> dict[str, StoredCase]:
    """The fold's cases, prepared and opened, with the masks of the previous stage if there is one.

    The other processes of a team wait until the first one has prepared them.
    """
    case_ids = (*task.split.train, *task.split.validation)
    if not team.leads:
        team.wait()
    stored = prepared_cases(task.work, task.configuration, task.dataset, case_ids, progress)
    if task.configuration.previous_stage is not None:
        stored = with_previous_masks(task.work, task.plan, task.configuration, stored)
    if team.leads:
        team.wait()
    if task.configuration.training.augment_on == "workers":  # they open them again
        return stored
    return in_memory_if_small(stored, task.request.launch.local_size)


def _job(
    task: FoldTask,
    cases: dict[str, StoredCase],
    budget: Budget,
    device: "Device",
    earlier: "SavedState | None",
) -> "TrainingJob":
    from autoseg.checkpoint import ModelCard
    from autoseg.training.trainer import TrainingJob

    card = ModelCard(
        plan_name=task.plan.name,
        configuration=task.configuration,
        labels=task.plan.labels,
        channel_names=task.plan.channel_names,
        fold=task.request.fold,
        trained_cases=len(task.split.train),
        trained_iterations=0,
        trained_seconds=0.0,
        held_out=task.split.validation,
    )
    training = task.configuration.training
    if not task.split.validation and (training.early_stop_epochs or training.keep_best):
        log.warning("No case is held out, so training.early_stop_epochs and keep_best do nothing.")
    return TrainingJob(
        card=card,
        train_cases={case_id: cases[case_id] for case_id in task.split.train},
        validation_cases={case_id: cases[case_id] for case_id in task.split.validation},
        budget=budget,
        folder=task.folder,
        device=device,
        threads=max(1, available_cores() // task.request.launch.local_size - 1),
        seed=earlier.seed if earlier else task.request.seed or 0,
        initial_model=task.request.initial_model,
    )


def _budget(training: TrainingPlan, request: TrainRequest, earlier: "SavedState | None") -> Budget:
    """The length that was asked for; else that of the earlier training, or the plan's."""
    if earlier and not request.length.is_given:
        return Budget(earlier.budget_iterations, earlier.budget_seconds)
    return make_budget(training, request.length)


def _plan_for_device(task: FoldTask, torch_device: str) -> None:
    """Save the plan with a batch that fits into memory, if it changes; warn elsewhere."""
    plan = task.plan
    if torch_device != TORCH_DEVICES[plan.machine.device]:
        log.warning(
            "The plan is for a %s, but this machine will train on its %s. To plan for it: "
            "autoseg plan %s --name here",
            plan.machine.device,
            torch_device,
            task.work.state().dataset,
        )
        return
    usable_gib = usable_memory_gib(detect_machine())
    fitting = plan_that_fits(plan, task.configuration.name, usable_gib)
    if fitting != plan:
        task.work.save_plan(fitting)


def earlier_training(work: WorkFolder, request: TrainRequest) -> "SavedState | None":
    """The state of an earlier training of this fold to go on from; None to begin.

    Raises AutosegError when there is one, but the request says neither to resume nor to overwrite,
    or asks for another seed than it was begun with; and when the model to start from is none.
    """
    from autoseg.checkpoint import read_card
    from autoseg.training.state import StateFile

    if request.initial_model is not None:
        if request.resume:
            raise AutosegError("--init begins a training, and --resume goes on with one: use one.")
        read_card(request.initial_model)
    plan = work.plan(request.plan_name)
    configuration = plan.configuration(request.configuration)
    work.check_fold(request.fold)
    folder = work.fold(plan.name, configuration.name, request.fold)
    state_file = StateFile.of(folder)
    if request.overwrite:
        return None
    if not state_file.exists() and not (folder / "model.safetensors").exists():
        return None
    if not request.resume:
        raise AutosegError(
            f"{folder} already holds a training. Go on with --resume, or begin anew with "
            "--overwrite."
        )
    state = state_file.read()
    if request.seed not in (None, state.seed):
        raise AutosegError(
            f"--seed {request.seed}: this training was begun with seed {state.seed}. Leave --seed "
            "out to go on, or begin anew with --overwrite."
        )
    return state


def _clear(folder: Path) -> None:
    """Delete an earlier training of a fold; its masks are replaced one by one."""
    for name in (
        "metrics.jsonl",
        MODEL,
        "best.safetensors",
        "progress.png",
        "examples.png",
        f"validation/{PROVENANCE}",
        "resume/state.safetensors",
        SUMMARY,
    ):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _finished(folder: Path, budget: "Budget", earlier: "SavedState | None") -> FoldResult | None:
    """The outcome of a training that has nothing left to do."""
    summary = folder / SUMMARY
    if earlier is None or not (folder / MODEL).exists() or not summary.exists():
        return None
    position = earlier.position
    if budget.fraction(position.iteration, position.elapsed_s) < 1 and not position.stopped_early:
        return None
    evaluation = load_record(Evaluation, summary)
    return FoldResult(folder, position.iteration, position.elapsed_s, True, evaluation)


def validate_fold(task: FoldTask, progress: Progress = silent) -> Evaluation | None:
    """Predict a fold's held-out cases in full, as `predict` does, and score them."""
    from autoseg.inference.predictor import Predictor

    held_out = [case for case in task.dataset.cases if case.case_id in task.split.validation]
    if not held_out:
        return None
    stages = [task.configuration.name]
    if task.configuration.previous_stage is not None:  # of the same fold: it has not seen them
        stages.append(task.configuration.previous_stage)
    models = [task.folder_of(stage) / MODEL for stage in stages]
    predictor = Predictor.load(models, task.request.device)
    output = task.folder / "validation"
    _, problems = predict_cases(predictor, held_out, MaskWriter(output), progress)
    raise_if_any(problems, "Held-out scans could not be segmented")
    pairs = {
        case.case_id: (output / f"{case.case_id}.nii.gz", case.label)
        for case in held_out
        if case.label is not None
    }
    evaluation = evaluate_pairs(pairs, task.plan.labels, 1, progress)
    save_record(evaluation, task.folder / SUMMARY)
    return evaluation
