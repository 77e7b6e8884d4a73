"""What each verb does: calls a pipeline stage and prints its outcome."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoseg.pipeline.jobs import Rank, TrainJob

INTERRUPTED, TERMINATED = 130, 143


def check(options: argparse.Namespace) -> int:
    """`autoseg check`: 1 when the dataset has errors."""
    from autoseg.cli.screens import check_screen, repair_screen
    from autoseg.pipeline.check import check_dataset

    with _progress() as progress:
        report, repairs = check_dataset(options.dataset, options.fix, _workers(options), progress)
    if options.json:
        problems = [p.model_dump() | {"severity": p.severity} for p in report.problems]
        print(json.dumps(report.model_dump() | {"problems": problems}, indent=2))
    else:
        print(check_screen(report))
    if options.fix:
        print(repair_screen(options.fix, repairs), file=sys.stderr)
        return 1 if any(repair.left_out for repair in repairs) else 0
    return 1 if report.count("error") else 0


def plan(options: argparse.Namespace) -> None:
    """`autoseg plan`."""
    from autoseg.cli.screens import plan_screen
    from autoseg.pipeline.plan import PlanJob, plan_dataset
    from autoseg.work_folder import WorkFolder

    job = PlanJob(
        dataset=options.dataset,
        work=options.work,
        rules=options.rules,
        target=options.target,
        hours=options.hours,
        name=options.name,
        like=options.like,
        measure=options.measure,
        overwrite=options.overwrite,
        settings=tuple(options.settings),
    )
    work = WorkFolder(options.work)
    with _progress() as progress:
        outcome = plan_dataset(job, _workers(options), progress)
        if options.html:
            from autoseg.pipeline.report import ReportJob, report_work

            report = ReportJob(work=options.work, plan=outcome.plan.name)
            report_work(report, outcome.problems, progress)
    if options.json:
        print(outcome.plan.model_dump_json(indent=2))
    else:
        print(plan_screen(outcome, work.plan_path(outcome.plan.name)))


def explain(options: argparse.Namespace) -> None:
    """`autoseg explain`."""
    from autoseg.cli.reasons import explain_screen, find_decisions
    from autoseg.work_folder import WorkFolder

    decisions = find_decisions(WorkFolder(options.work).plan(options.plan), options.field)
    if options.json:
        print(json.dumps([d.model_dump(mode="json") for d in decisions], indent=2))
    else:
        print(explain_screen(decisions, in_full=options.field is not None))


def prepare(options: argparse.Namespace) -> None:
    """`autoseg prepare`."""
    from autoseg.pipeline.prepare import Resources, remove_damaged
    from autoseg.pipeline.prepare import prepare as prepare_stage
    from autoseg.work_folder import WorkFolder

    work, names = WorkFolder(options.work), options.configuration or ()
    with _progress() as progress:
        if options.verify:
            checked, damaged = remove_damaged(work, options.plan, names, progress)
        done, folders = prepare_stage(
            work,
            options.plan,
            names,
            Resources(_workers(options), options.memory_gib),
            progress,
        )
    where = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    if options.verify:
        print(f"Checked {checked} prepared files; {damaged} were damaged.")
    print(f"Prepared {done} cases in {where}. What was there already is kept.")


def train(options: argparse.Namespace) -> int:
    """`autoseg train`."""
    from autoseg.pipeline.executors import train_on, training_devices
    from autoseg.pipeline.jobs import jobs_in_order

    jobs = jobs_in_order(_train_jobs(options))
    stop = Event()
    caught = _stop_gently(stop)
    if jobs[0].rank.world_size == 1 and options.device is None and len(jobs) > 1:
        devices = training_devices()
        if len(devices) > 1:
            with _progress() as progress:
                train_on(devices, jobs, stop, _interruptible(progress, stop))
            return caught[0]
    for job in jobs:
        _train_here(job, stop)
        if stop.is_set():
            print(
                "Stopped; what was saved is kept. The same command with --resume goes on.",
                file=sys.stderr,
            )
            return caught[0]
    return 0


def _train_jobs(options: argparse.Namespace) -> "list[TrainJob]":
    from autoseg.errors import AutosegError
    from autoseg.pipeline.jobs import TrainJob
    from autoseg.training.schedule import Budget
    from autoseg.work_folder import WorkFolder

    wrong = [f for f in options.fold or [] if f != "all" and not f.isdecimal()]
    if wrong:
        raise AutosegError(f"--fold {wrong[0]}: expected fold numbers, or all.")
    folds = WorkFolder(options.work).splits().folds
    names = list(dict.fromkeys(options.fold or [])) or [str(i) for i in range(len(folds))]
    hours = options.minutes / 60 if options.minutes else options.hours
    budget = Budget(
        epochs=options.epochs,
        iterations=options.iterations,
        seconds=3600 * hours if hours else None,
    )
    start = "resume" if options.resume else "over" if options.overwrite else "anew"
    return [
        TrainJob(
            fold=None if name == "all" else int(name),
            work=options.work,
            plan=options.plan,
            configuration=options.configuration,
            budget=budget,
            seed=options.seed,
            initial_model=options.init,
            device=options.device,
            start=start,
            rank=_rank(),
        )
        for name in names or ["all"]
    ]


def _train_here(job: "TrainJob", stop: Event) -> None:
    """Train one fold in this process, and show it."""
    from autoseg.cli.screens import fold_screen
    from autoseg.pipeline.train import train_fold
    from autoseg.work_folder import WorkFolder

    try:
        with _progress() as progress, _training_view(job.fold, job.rank.rank) as view:
            result = train_fold(job, view, stop, _interruptible(progress, stop))
    except KeyboardInterrupt:
        stop.set()
    if not stop.is_set() and job.rank.rank == 0:
        print(fold_screen(result, WorkFolder(job.work).plan(job.plan).labels))


def predict(options: argparse.Namespace) -> None:
    """`autoseg predict`."""
    from autoseg.errors import AutosegError, raise_if_any
    from autoseg.pipeline.predict import (
        MASKS_ALONE,
        Extras,
        Part,
        PredictJob,
        models_to_use,
        predict_files,
    )
    from autoseg.pipeline.selected import ModelsToUse

    if options.model:
        chosen = ModelsToUse(tuple(options.model), None)
    else:
        chosen = models_to_use(options.work, options.plan, options.configuration)
    if chosen.told:
        print(chosen.told, file=sys.stderr)
    instances = None
    if options.min_volume and not options.instances:
        raise AutosegError("--min-volume is for --instances. Give both, or neither.")
    if options.instances:
        from autoseg.postprocessing.instances import InstanceRule

        instances = InstanceRule(min_volume_mm3=options.min_volume)
    with _progress() as progress:
        job = PredictJob(
            inputs=tuple(options.inputs),
            output=options.output,
            models=chosen.models,
            recipe=chosen.recipe,
            device=options.device,
            precision=options.precision,
            engine=options.engine,
            memory_gib=options.memory_gib,
            cache=_cache_folder(),
            extras=Extras(
                uncertainty=options.uncertainty,
                probabilities=options.save_probabilities,
                instances=instances,
                pictures=options.pictures,
            ),
            ahead=not options.one_at_a_time,
            part=Part.parse(options.part) if options.part else None,
            overwrite=options.overwrite,
        )
        result = predict_files(job, progress)
    done, kept, failed = result.done, result.kept, len(result.problems)
    for note in result.notes:
        print(note, file=sys.stderr)
    for provenance in done:
        for warning in provenance.warnings:
            print(f"{provenance.case_id}: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps([p.model_dump(mode="json") for p in done], indent=2))
    else:
        also = f"; kept {kept} that were there (--overwrite replaces them)" if kept else ""
        if kept and job.extras != MASKS_ALONE:
            also += ", and wrote nothing else for those"
        print(
            f"Wrote {_counted(len(done), 'mask')} to {options.output} with "
            f"{_counted(len(chosen.models), 'model')}{also}."
        )
        if any(provenance.quality for provenance in done):
            from autoseg.cli.quality_screen import quality_screen

            print(quality_screen(done))
    raise_if_any(result.problems, f"{failed} of {failed + len(done)} scans could not be segmented")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cache_folder() -> Path:
    """Where compiled networks are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "autoseg"


def import_nnunet(options: argparse.Namespace) -> None:
    """`autoseg import nnunet`."""
    from autoseg.interop.nnunet_models import import_models

    written = import_models(options.source, options.out)
    for path in written:
        print(path)


def export_nnunet(options: argparse.Namespace) -> None:
    """`autoseg export nnunet`."""
    from autoseg.interop.nnunet_export import export_models

    exported = export_models(options.models, options.out, options.dataset)
    for note in exported.notes:
        print(note, file=sys.stderr)
    for folder in exported.folders:
        print(folder)


def select(options: argparse.Namespace) -> None:
    """`autoseg select`."""
    from autoseg.cli.selection_screen import selection_screen
    from autoseg.pipeline.held_out import Running
    from autoseg.pipeline.select import SelectJob
    from autoseg.pipeline.select import select as select_stage

    job = SelectJob(
        work=options.work,
        plans=tuple(options.plan or ()),
        configurations=tuple(options.configuration or ()),
        metric=options.metric or "dice",
        rules=options.rules,
        running=Running(device=options.device, cache=_cache_folder()),
    )
    with _progress() as progress:
        selection = select_stage(job, _workers(options), progress)
    for note in selection.notes:
        print(note, file=sys.stderr)
    if options.json:
        print(selection.model_dump_json(indent=2))
    else:
        print(selection_screen(selection, options.work))


def export_model(options: argparse.Namespace) -> None:
    """`autoseg export model`."""
    from autoseg.pipeline.pack import pack_models

    packed = pack_models(options.work, options.out, options.plan, options.configuration)
    print(packed.in_a_line())


def evaluate(options: argparse.Namespace) -> None:
    """`autoseg evaluate`."""
    from autoseg.cli.scores import comparison_screen, evaluation_screen, metrics_screen
    from autoseg.evaluation.score_table import write_scores
    from autoseg.pipeline.evaluate import EvaluateJob, evaluate_masks

    if "list" in options.metrics:
        print(metrics_screen())
        return
    tolerance_mm, tolerances_mm = _tolerances(options.tolerance)
    job = EvaluateJob(
        predictions=tuple(options.predictions or ()),
        references=options.references,
        labels=options.labels,
        work=options.work,
        plan=options.plan,
        configurations=tuple(options.configuration),
        metrics=tuple(options.metrics),
        surfaces=options.surfaces,
        tolerances_mm=tolerances_mm,
        **({} if tolerance_mm is None else {"tolerance_mm": tolerance_mm}),
    )
    with _progress() as progress:
        outcome = evaluate_masks(job, _workers(options), progress)
        notes = [note for one in outcome.evaluations.values() for note in one.notes]
        if options.pictures:
            from autoseg.pipeline.pictures import draw_evaluated

            evaluations = list(outcome.evaluations.values())
            notes += draw_evaluated(job, evaluations, options.scans, _workers(options), progress)
    for note in dict.fromkeys(notes):
        print(f"Note: {note.removesuffix('.')}.", file=sys.stderr)
    if options.csv:
        write_scores(outcome.evaluations, options.csv)
    (first, *others) = outcome.evaluations.values()
    if options.json:
        print((outcome if others else first).model_dump_json(indent=2))
        return
    for name, evaluation in outcome.evaluations.items():
        title = f"{name}:\n" if others else ""
        print(f"{title}{evaluation_screen(evaluation, options.metrics)}")
    for comparison in outcome.comparisons:
        print(comparison_screen(comparison, first, options.metrics))


def _tolerances(given: list[tuple[str | None, float]]) -> tuple[float | None, dict[str, float]]:
    """Of all classes, and of some by name."""
    for_all = [length_mm for name, length_mm in given if name is None]
    by_name = {name: length_mm for name, length_mm in given if name is not None}
    return (for_all[-1] if for_all else None), by_name


def report(options: argparse.Namespace) -> None:
    """`autoseg report`."""
    from autoseg.pipeline.report import ReportJob, report_work

    job = ReportJob(work=options.work, plan=options.plan, out=options.out)
    with _progress() as progress:
        path = report_work(job, progress=progress)
    print(path)


def doctor(options: argparse.Namespace) -> None:
    """`autoseg doctor`."""
    from autoseg.cli.screens import doctor_screen
    from autoseg.pipeline.doctor import examine

    findings = examine(Path())
    if options.json:
        print(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2))
    else:
        print(doctor_screen(findings))


def demo(options: argparse.Namespace) -> None:
    """`autoseg demo`."""
    from autoseg.cli.scores import evaluation_screen
    from autoseg.pipeline.demo import run_demo

    with _progress() as progress, _training_view(0) as view:
        evaluation, names, report = run_demo(options.output, options.minutes, view, progress)
    print("Scans that were never seen, predicted in full:")
    print(evaluation_screen(evaluation.model_copy(update={"names": names})))
    print(f"The report with figures is {report}; scans, masks and model lie beside it.")


def _interruptible(progress: Any, stop: Event) -> Any:
    """A listener that ends the stage it listens to once `stop` is set."""

    def listen(done: int, total: int, what: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress(done, total, what)

    return listen


def _workers(options: argparse.Namespace) -> int:
    from autoseg.machine import available_cores

    return int(options.workers or available_cores())


def _progress() -> Any:
    from autoseg.cli.screens import ProgressBars

    return ProgressBars()


def _training_view(fold: int | None, rank: int = 0) -> Any:
    """What shows a training; only the first process of several shows anything."""
    from autoseg.cli.screens import TrainingView

    def write(text: str) -> None:
        if rank == 0:
            print(text, end="", file=sys.stderr, flush=True)

    name = "all" if fold is None else str(fold)
    return TrainingView(name, write, live=sys.stderr.isatty() and rank == 0)


def _rank() -> "Rank":
    """Which process this is, as torchrun says in the environment."""
    from autoseg.pipeline.jobs import Rank

    names = ("rank", "world_size", "local_rank", "local_world_size")
    given = {name: os.environ.get(name.upper()) for name in names}
    return Rank(**{name: int(value) for name, value in given.items() if value is not None})


def _stop_gently(stop: Event) -> list[int]:
    """Let the first Ctrl-C or SIGTERM end training after its iteration; the second one at once.

    The list that is returned holds the exit code of the signal that came.
    """
    caught = [0]

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        caught[0] = INTERRUPTED if number == signal.SIGINT else TERMINATED
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return caught
