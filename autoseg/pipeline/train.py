"""Training: from a plan to models, each scored on its held-out cases."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError, raise_if_any
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import OVERLAPS
from autoseg.evaluation.scoring import Scoring
from autoseg.machine import available_cores
from autoseg.parallel import Progress, silent
from autoseg.pipeline.cascade import with_previous_masks
from autoseg.pipeline.figures import WithFigures
from autoseg.pipeline.fitting import FoldRun, Place, caveats, fitted_run, memory_advice
from autoseg.pipeline.jobs import ResolvedJob, TrainJob, held_fold, resolve_job
from autoseg.pipeline.mask_writer import MASKS_ALONE, MaskWriter, extras_of_things
from autoseg.pipeline.prepare import in_memory_if_small, prepared_cases
from autoseg.pipeline.remarks import (
    in_words,
    mixed_patients,
    not_annotated,
    short_length,
    unseen_classes,
)
from autoseg.pipeline.scan_by_scan import predict_cases
from autoseg.planning.plan import Configuration
from autoseg.preprocessing.store import StoredCase
from autoseg.records import load_record, save_record

if TYPE_CHECKING:
    from autoseg.device import Device
    from autoseg.training.distributed import ProcessGroup
    from autoseg.training.job import Training
    from autoseg.training.metrics_log import TrainingListener

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold after training. `evaluation` is None when it was stopped, or could not be scored;
    `remarks` are sentences about it."""

    folder: Path
    iterations: int
    seconds: float
    finished: bool
    evaluation: Evaluation | None
    remarks: tuple[str, ...] = ()


def train_fold(
    job: TrainJob, listener: "TrainingListener", stop: Event, progress: Progress = silent
) -> FoldResult:
    """Prepare what is missing, train one fold, save its model, score its held-out cases in full.

    Of several processes that train together the main one does all but the training alone. Raises
    AutosegError while another training of the fold lives.
    """
    from autoseg.training.distributed import join_group  # torch takes seconds to import

    with held_fold(job):
        found = resolve_job(job)
        group = join_group(job.rank.rank, job.rank.world_size)
        if (finished := _finished(found)) is not None:
            return finished
        device = _device(job)
        group.share(found.planned.run.batch_size)
        fold = f"fold {job.fold} of {found.planned.name}"
        group.main_alone(lambda: _make_ready(found, device, group, progress), f"preparing {fold}")
        training = _training(found, device, group, progress)
        if found.earlier is None and group.is_main:  # now that all is ready for another one
            found.folder.clear()
        return _train_and_score(
            found, training, WithFigures(listener, found.folder), stop, progress
        )


def _finished(found: ResolvedJob) -> FoldResult | None:
    """The outcome of a training that has nothing left to do."""
    folder, earlier = found.folder, found.earlier
    if earlier is None or not (folder.model.exists() and folder.summary.exists()):
        return None
    position = earlier.position
    done = found.budget.fraction(position.iteration, position.elapsed_s) >= 1
    if not done and not position.stopped_early:
        return None
    remark = (
        "It was finished before, so nothing was done. To train it longer, give --resume a larger "
        f"length: --iterations of more than {position.iteration}, --epochs, --minutes or --hours."
    )
    if not done:
        remark = (
            "It had ended early, as training.early_stop_epochs says, so nothing was done. To train "
            "it longer, plan without that and begin anew with --overwrite."
        )
    return FoldResult(
        folder.root,
        position.iteration,
        position.elapsed_s,
        True,
        load_record(Evaluation, folder.summary),
        (remark, *_doubts(found)),
    )


def _train_and_score(
    found: ResolvedJob,
    training: "Training",
    listener: "TrainingListener",
    stop: Event,
    progress: Progress,
) -> FoldResult:
    from autoseg.checkpoint import save_model
    from autoseg.training.bookkeeping import card_at, state_files
    from autoseg.training.trainer import train_model

    group = training.group
    try:
        network, position = train_model(training, listener, stop, found.earlier is not None)
    except (RuntimeError, MemoryError) as error:
        explanation = memory_advice(error, training.configuration, found.plan.labels)
        if explanation is None:
            raise
        raise AutosegError(explanation) from error
    (stopped,) = group.broadcast(float(stop.is_set()))
    folder = found.folder.root
    result = FoldResult(folder, position.iteration, position.elapsed_s, not stopped, None)
    if stopped:  # all processes, when the main one is told to
        stop.set()
        return result
    evaluations: list[Evaluation | None] = []

    def finish() -> None:
        found.folder.summary.unlink(missing_ok=True)  # of an earlier model
        ran = training.computing_in(state_files(training).read().precision)
        save_model(found.folder.model, network, card_at(ran, position))
        evaluations.append(validate_fold(found, progress))

    group.main_alone(finish, f"scoring fold {found.job.fold} of {found.planned.name}")
    remarks = (*_unscored(found), *_doubts(found))
    return replace(result, evaluation=evaluations[0] if evaluations else None, remarks=remarks)


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
    found: ResolvedJob, device: "Device", group: "ProcessGroup", progress: Progress
) -> None:
    """What one process does for all: what this machine trains, and the cases that are missing."""
    planned, expected = found.planned.run.training, found.plan.expected[found.planned.name]
    short = short_length(found.budget, planned, expected)
    for remark in ([] if short is None else [short], _unscored(found), _doubts(found)):
        for sentence in remark:
            log.warning("%s", sentence)
    if found.earlier is None:
        fitted = _fitted(found, device)
        for change in fitted.changes:
            log.warning("%s: %s.", found.planned.name, change)
        save_record(fitted, found.folder.run)
    _stored(found, progress)


def _doubts(found: ResolvedJob) -> list[str]:
    """What its scores do not tell, or tell too well, as sentences."""
    fold, cases = found.job.fold, found.work.fingerprint().cases
    patients = {case.case_id: case.patient_id for case in found.dataset.cases}
    return [
        *mixed_patients(fold, found.split, patients, found.work.splits_path),
        *unseen_classes(fold, found.split, cases, found.plan.labels),
    ]


def _unscored(found: ResolvedJob) -> list[str]:
    """Why there are no scores, as a sentence; empty where there are."""
    if not (found.split.validation and found.dataset_is_away):
        return []
    return [
        f"{found.dataset.root}: the dataset is not there, so the fold is trained from what is "
        "prepared, and its held-out cases cannot be scored. Say where it lies now (autoseg plan "
        "NEW_PLACE); the same training with --resume then scores them."
    ]


def _fitted(found: ResolvedJob, device: "Device") -> FoldRun:
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


def _stored(found: ResolvedJob, progress: Progress) -> dict[str, StoredCase]:
    """The fold's cases, prepared and opened, with the masks of the previous stage if there is
    one."""
    case_ids = (*found.split.train, *found.split.validation)
    stored = prepared_cases(found.work, found.planned.grid, found.dataset, case_ids, progress)
    if found.planned.previous_stage is not None:
        stored = with_previous_masks(found.work, found.plan, found.planned, stored)
    return stored


def _training(
    found: ResolvedJob, device: "Device", group: "ProcessGroup", progress: Progress
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
    cases = _learnable(found, _stored(found, progress), group)
    if configuration.run.training.augment_on == "device" and device.kind == "cpu":
        cases = in_memory_if_small(cases, job.rank.local_world_size)
    return Training(
        card=ModelCard(
            plan_name=found.plan.name,
            configuration=configuration,
            labels=found.plan.labels,
            channel_names=found.plan.channel_names,
            fold=job.fold,
            trained_cases=len(cases.keys() & set(split.train)),
            trained_iterations=0,
            trained_seconds=0.0,
            held_out=split.validation,
        ),
        planned=found.planned,
        train_cases={c: cases[c] for c in split.train if c in cases},
        validation_cases={c: cases[c] for c in split.validation if c in cases},
        budget=found.budget,
        folder=found.folder,
        device=device,
        threads=max(1, available_cores() // job.rank.local_world_size - 1),
        seed=earlier.seed if earlier else job.seed or 0,
        initial_model=job.initial_model,
        cache=job.cache,
        expected_epoch_s=60 * found.plan.expected[found.planned.name].epoch_minutes or None,
        group=group,
    )


def _learnable(
    found: ResolvedJob, cases: dict[str, StoredCase], group: "ProcessGroup"
) -> dict[str, StoredCase]:
    """Cases of which anything is annotated. Raises AutosegError where none is left to train on."""
    blank = not_annotated(cases)
    if blank and group.is_main:
        log.warning(
            "%s: every voxel has the ignore label, so no patch is taken from there.",
            in_words(blank),
        )
    if not set(found.split.train) - set(blank):
        raise AutosegError(
            f"No case is left to train on: every voxel of {in_words(blank)} has the ignore label. "
            "Annotate some of them, or train another fold."
        )
    return {case_id: case for case_id, case in cases.items() if case_id not in blank}


def _warn_of_options(configuration: Configuration, labels: LabelScheme, holds_out: bool) -> None:
    """Say which options do nothing, or not all that one would think."""
    run, options = configuration.run, configuration.run.training
    if not holds_out and (options.early_stop_epochs or options.keep_best):
        log.warning("No case is held out, so training.early_stop_epochs and keep_best do nothing.")
    if options.accumulated_batches > 1 and (differs := caveats(run, labels)):
        log.warning(
            "Batches of %d, %d samples to a step: %s.", run.batch_size, run.step_samples, differs
        )


def validate_fold(found: ResolvedJob, progress: Progress = silent) -> Evaluation | None:
    """Predict a fold's held-out cases in full, as `predict` does, and score them."""
    from autoseg.inference.predictor import Predictor

    held_out = [case for case in found.dataset.cases if case.case_id in found.split.validation]
    if not held_out or found.dataset_is_away:
        return None
    first = found.folder_of_first_stage()
    models = [found.folder.model, *([] if first is None else [first.model])]
    predictor = Predictor.load(models, found.job.device, cache=found.job.cache)
    labels = found.plan.labels
    extras = extras_of_things(MASKS_ALONE, labels, predictor.smallest_object_mm)
    writer = MaskWriter(found.folder.validation, extras, labels=labels)
    _, problems = predict_cases(predictor, held_out, writer, progress)
    raise_if_any(problems, "Held-out scans could not be segmented")
    pairs = {
        case.case_id: (found.folder.mask(case.case_id), case.label)
        for case in held_out
        if case.label is not None
    }
    patients = {case.case_id: case.patient_id for case in held_out}
    scoring = Scoring(metrics=OVERLAPS, patients=patients)
    evaluation = evaluate_pairs(pairs, labels, 1, progress, scoring)
    save_record(evaluation, found.folder.summary)
    return evaluation
