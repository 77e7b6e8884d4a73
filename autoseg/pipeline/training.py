"""Preparing and training: from a plan to models, each scored on its held-out cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.dataset import Case, Dataset, LabelScheme
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.evaluate import Evaluation, evaluate_pairs
from autoseg.layouts import open_dataset
from autoseg.machine import GIB, available_cores, detect_machine, free_memory_gb
from autoseg.pipeline.measuring import TORCH_DEVICES, plan_that_fits, usable_memory_gb
from autoseg.pipeline.predicting import predict_cases
from autoseg.planning.plan import Configuration, ConfigurationName, Plan, TrainingPlan
from autoseg.preprocessing.prepare import (
    Target,
    expected_memory_gb,
    preparation_hash,
    prepare_cases,
)
from autoseg.preprocessing.store import DamagedCaseError, StoredCase, open_case
from autoseg.records import load_record, save_record
from autoseg.splits import Fold
from autoseg.work import FoldName, WorkFolder
from autoseg.workers import MemoryBudget, Progress, silent

if TYPE_CHECKING:
    from autoseg.training.log import EpochSummary, TrainingListener
    from autoseg.training.schedule import Budget
    from autoseg.training.state import SavedState

log = logging.getLogger(__name__)

SUMMARY = "validation/summary.json"
FREE_MEMORY_FRACTION = 0.75
CASES_MEMORY_FRACTION = 0.25  # prepared cases are held in memory when they fit into this


@dataclass(frozen=True, slots=True)
class Resources:
    """Processes to use, and memory for all of them; None is three quarters of what is free."""

    workers: int
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Which fold to train and how; at most one length is given, else the plan's holds."""

    fold: FoldName
    plan_name: str | None = None
    configuration: str | None = None
    epochs: int | None = None
    iterations: int | None = None
    minutes: float | None = None
    seed: int | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold after training. `evaluation` is None when it was stopped, or holds no case out."""

    folder: Path
    iterations: int
    seconds: float
    finished: bool
    evaluation: Evaluation | None


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
    dataset = _dataset(work, plan)
    targets = [
        _target(work, plan.configuration(name), plan.labels)
        for name in configuration_names or [plan.recommended]
    ]
    done = _prepare(work, dataset, dataset.cases, targets, resources, progress)
    return done, [target.folder for target in targets]


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
    stats = {case.case_id: case for case in work.fingerprint().cases}
    channels = len(dataset.channel_names)
    needs_gb = {
        case.case_id: expected_memory_gb(stats[case.case_id], channels, targets) for case in cases
    }
    total_gb = resources.memory_gb or FREE_MEMORY_FRACTION * free_memory_gb()
    budget = MemoryBudget(total_gb, needs_gb)
    return prepare_cases(cases, dataset.labels, targets, resources.workers, progress, budget)


def _target(work: WorkFolder, configuration: Configuration, labels: LabelScheme) -> Target:
    return Target(configuration, work.prepared(preparation_hash(configuration, labels)))


def train_fold(
    work: WorkFolder,
    request: TrainRequest,
    listener: "TrainingListener",
    stop: Event,
    progress: Progress = silent,
) -> FoldResult:
    """Prepare what is missing, train one fold, save its model, score its held-out cases in full."""
    # torch takes seconds to import; only these stages need it.
    from autoseg.checkpoint import ModelCard, save_model
    from autoseg.inference.device import choose_device
    from autoseg.training.trainer import TrainingJob, train_model

    plan = work.plan(request.plan_name)
    dataset = _dataset(work, plan)
    configuration = plan.configuration(request.configuration)
    _check_trainable(plan.labels, configuration)
    split = work.fold_cases(dataset, request.fold)
    folder = work.fold(plan.name, configuration.name, request.fold)
    earlier = earlier_training(work, request)
    budget = _budget(configuration.training, request, earlier)
    finished = _finished(folder, budget, earlier)
    if finished is not None:
        return finished
    device = choose_device()
    if earlier is None:
        plan = _plan_for_device(work, plan, configuration.name, device.torch_device.type)
        configuration = plan.configurations[configuration.name]
    case_ids = (*split.train, *split.validation)
    stored = _prepared_cases(work, configuration, dataset, case_ids, progress)
    job = TrainingJob(
        configuration=configuration,
        labels=plan.labels,
        train_cases={case_id: stored[case_id] for case_id in split.train},
        validation_cases={case_id: stored[case_id] for case_id in split.validation},
        budget=budget,
        folder=folder,
        device=device.torch_device,
        bf16=device.bf16,
        threads=max(1, available_cores() - 1),
        seed=earlier.seed if earlier else request.seed or 0,
    )
    if earlier is None:
        _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with_picture = _WithPicture(listener, folder)
    network, position = train_model(job, with_picture, stop, resume=earlier is not None)
    if stop.is_set():
        return FoldResult(folder, position.iteration, position.elapsed_s, False, None)
    card = ModelCard(
        plan_name=plan.name,
        configuration=configuration,
        labels=plan.labels,
        channel_names=plan.channel_names,
        fold=request.fold,
        trained_cases=len(split.train),
        trained_iterations=position.iteration,
        trained_seconds=position.elapsed_s,
    )
    (folder / SUMMARY).unlink(missing_ok=True)  # of an earlier model
    save_model(folder / "model.safetensors", network, card)
    evaluation = validate_fold(folder, dataset, split, progress)
    return FoldResult(folder, position.iteration, position.elapsed_s, True, evaluation)


def _budget(
    training: TrainingPlan, request: TrainRequest, earlier: "SavedState | None"
) -> "Budget":
    """The length that was asked for; else that of the earlier training, or the plan's."""
    from autoseg.training.schedule import Budget, make_budget

    lengths = (request.epochs, request.iterations, request.minutes)
    if earlier and lengths == (None, None, None):
        return Budget(earlier.budget_iterations, earlier.budget_seconds)
    return make_budget(training, *lengths)


def _plan_for_device(
    work: WorkFolder, plan: Plan, name: ConfigurationName, torch_device: str
) -> Plan:
    """The plan with a batch that fits into memory, saved if it changed; a warning elsewhere."""
    if torch_device != TORCH_DEVICES[plan.machine.device]:
        log.warning(
            "The plan is for a %s, but this machine will train on its %s. To plan for it: "
            "autoseg plan %s --name here",
            plan.machine.device,
            torch_device,
            work.state().dataset,
        )
        return plan
    fitting = plan_that_fits(plan, name, usable_memory_gb(detect_machine()))
    if fitting != plan:
        work.save_plan(fitting)
    return fitting


def _check_trainable(labels: LabelScheme, configuration: Configuration) -> None:
    """Refuse what can be planned, but not trained yet."""
    beyond = {
        "regions": bool(labels.regions),
        "an ignore label": labels.ignore is not None,
        "the second stage of a cascade": configuration.previous_stage is not None,
    }
    for what, found in beyond.items():
        if found:
            raise AutosegError(f"autoseg plans {what}, but cannot train with it yet.")


def earlier_training(work: WorkFolder, request: TrainRequest) -> "SavedState | None":
    """The state of an earlier training of this fold to go on from; None to begin.

    Raises AutosegError when there is one, but the request says neither to resume nor to overwrite,
    or asks for another seed than it was begun with.
    """
    from autoseg.training.state import StateFile

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
        "model.safetensors",
        "progress.png",
        "resume/state.safetensors",
        SUMMARY,
    ):
        (folder / name).unlink(missing_ok=True)


def _finished(folder: Path, budget: "Budget", earlier: "SavedState | None") -> FoldResult | None:
    """The outcome of a training that has nothing left to do."""
    summary = folder / SUMMARY
    if earlier is None or not (folder / "model.safetensors").exists() or not summary.exists():
        return None
    position = earlier.position
    if budget.fraction(position.iteration, position.elapsed_s) < 1:
        return None
    evaluation = load_record(Evaluation, summary)
    return FoldResult(folder, position.iteration, position.elapsed_s, True, evaluation)


class _WithPicture:
    """Passes a training's events on, and draws `progress.png` after each epoch."""

    def __init__(self, listener: "TrainingListener", folder: Path) -> None:
        self.listener = listener
        self.folder = folder

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.listener.on_step(iteration, fraction, loss)

    def on_epoch(self, summary: "EpochSummary") -> None:
        from autoseg.reporting.curves import draw_progress

        self.listener.on_epoch(summary)
        draw_progress(self.folder / "metrics.jsonl", self.folder / "progress.png")


def validate_fold(
    folder: Path, dataset: Dataset, split: Fold, progress: Progress = silent
) -> Evaluation | None:
    """Predict a fold's held-out cases in full, as `predict` does, and score them."""
    from autoseg.inference.predictor import Predictor

    held_out = {case.case_id: case for case in dataset.cases if case.case_id in split.validation}
    if not held_out:
        return None
    predictor = Predictor.load([folder / "model.safetensors"])
    output = folder / "validation"
    _, problems = predict_cases(predictor, list(held_out.values()), output, progress)
    raise_if_any(problems, "Held-out scans could not be segmented")
    pairs = {
        case_id: (output / f"{case_id}.nii.gz", case.label)
        for case_id, case in held_out.items()
        if case.label is not None
    }
    evaluation = evaluate_pairs(pairs, predictor.card.labels, 1, progress)
    save_record(evaluation, output / "summary.json")
    return evaluation


def _dataset(work: WorkFolder, plan: Plan) -> Dataset:
    """The dataset as it is now. Raises AutosegError when it is no longer what was planned for."""
    dataset = open_dataset(Path(work.state().dataset), plan.labels)
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


def _prepared_cases(
    work: WorkFolder,
    configuration: Configuration,
    dataset: Dataset,
    case_ids: Sequence[str],
    progress: Progress,
) -> dict[str, StoredCase]:
    """Prepare what is missing of some cases and open them, in memory when they are small."""
    assert dataset.labels is not None
    target = _target(work, configuration, dataset.labels)
    cases = [case for case in dataset.cases if case.case_id in set(case_ids)]
    _prepare(work, dataset, cases, [target], Resources(available_cores()), progress)
    stored = {}
    for case in cases:
        try:
            stored[case.case_id] = open_case(target.path(case.case_id))
        except DamagedCaseError as damage:
            log.warning("%s It is prepared again now.", damage)
            target.path(case.case_id).unlink()
            _prepare(work, dataset, [case], [target], Resources(1), progress)
            stored[case.case_id] = open_case(target.path(case.case_id))
    if sum(case.bytes_in_memory for case in stored.values()) < _memory_for_cases():
        return {case_id: case.loaded() for case_id, case in stored.items()}
    return stored


def _memory_for_cases() -> float:
    return detect_machine().memory_gb * GIB * CASES_MEMORY_FRACTION
