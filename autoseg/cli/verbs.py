"""What each verb does: calls a pipeline stage and prints its outcome."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143


def check(options: argparse.Namespace) -> int:
    """`autoseg check`: 1 when the dataset has errors."""
    from autoseg.cli.screens import check_screen, repair_screen
    from autoseg.pipeline.plan import check_dataset

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
    from autoseg.pipeline.plan import PlanRequest, plan_dataset, write_plan_report
    from autoseg.work_folder import WorkFolder

    request = PlanRequest(
        rules=options.rules,
        target=options.target,
        name=options.name,
        like=options.like,
        measure=options.measure,
        overwrite=options.overwrite,
        settings=options.settings,
    )
    work = WorkFolder(options.work)
    with _progress() as progress:
        outcome = plan_dataset(options.dataset, work, request, _workers(options), progress)
        if options.html:
            write_plan_report(outcome, work.report)
    if options.json:
        print(outcome.plan.model_dump_json(indent=2))
    else:
        print(plan_screen(outcome, work.plan_path(outcome.plan.name)))


def explain(options: argparse.Namespace) -> None:
    """`autoseg explain`."""
    from autoseg.cli.screens import explain_screen, find_decisions
    from autoseg.work_folder import WorkFolder

    decisions = find_decisions(WorkFolder(options.work).plan(options.plan), options.field)
    if options.json:
        print(json.dumps([d.model_dump(mode="json") for d in decisions], indent=2))
    else:
        print(explain_screen(decisions, in_full=options.field is not None))


def prepare(options: argparse.Namespace) -> None:
    """`autoseg prepare`."""
    from autoseg.pipeline.prepare import Resources
    from autoseg.pipeline.prepare import prepare as prepare_stage
    from autoseg.work_folder import WorkFolder

    with _progress() as progress:
        done, folders = prepare_stage(
            WorkFolder(options.work),
            options.plan,
            options.configuration or (),
            Resources(_workers(options), options.memory_gib),
            progress,
        )
    where = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    print(f"Prepared {done} cases in {where}. What was there already is kept.")


def train(options: argparse.Namespace) -> int:
    """`autoseg train`."""
    from autoseg.cli.screens import fold_screen
    from autoseg.errors import AutosegError
    from autoseg.pipeline.executors import train_on, training_devices
    from autoseg.pipeline.train import (
        TrainRequest,
        earlier_training,
        train_fold,
        training_order,
    )
    from autoseg.training.schedule import Length
    from autoseg.work_folder import WorkFolder

    work = WorkFolder(options.work)
    wrong = [f for f in options.fold or [] if f != "all" and not f.isdecimal()]
    if wrong:
        raise AutosegError(f"--fold {wrong[0]}: expected fold numbers, or all.")
    names = (
        list(dict.fromkeys(options.fold or []))
        or [str(i) for i in range(len(work.splits().folds))]
        or ["all"]
    )
    launch = _launch()
    requests = [
        TrainRequest(
            fold=None if name == "all" else int(name),
            plan_name=options.plan,
            configuration=options.configuration,
            length=Length(options.epochs, options.iterations, options.minutes, options.hours),
            seed=options.seed,
            initial_model=options.init,
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            launch=launch,
        )
        for name in names
    ]
    for request in requests:  # all of them, before the first one takes hours
        earlier_training(work, request)
    requests = training_order(work, requests)
    stop = Event()
    caught = _stop_gently(stop)
    if launch.size == 1 and options.device is None and len(requests) > 1:
        devices = training_devices()
        if len(devices) > 1:
            with _progress() as progress:
                train_on(devices, work, requests, stop, _interruptible(progress, stop))
            return caught[0]
    for request in requests:
        try:
            with _progress() as progress, _training_view(request.fold, launch.rank) as view:
                listen = _interruptible(progress, stop)
                result = train_fold(work, request, view, stop, listen)
        except KeyboardInterrupt:
            stop.set()
        if stop.is_set():
            print(
                "Stopped; what was saved is kept. The same command with --resume goes on.",
                file=sys.stderr,
            )
            return caught[0]
        if launch.rank == 0:
            print(fold_screen(result, work.plan(options.plan).labels))
    return 0


def predict(options: argparse.Namespace) -> None:
    """`autoseg predict`."""
    from autoseg.errors import AutosegError, raise_if_any
    from autoseg.pipeline.predict import Extras, Part, PredictRequest, predict_files

    models = options.model or _trained_models(options)
    instances = None
    if options.min_volume and not options.instances:
        raise AutosegError("--min-volume is for --instances. Give both, or neither.")
    if options.instances:
        from autoseg.postprocessing.instances import InstanceRule

        instances = InstanceRule(min_volume_mm3=options.min_volume)
    with _progress() as progress:
        request = PredictRequest(
            inputs=options.inputs,
            output=options.output,
            models=models,
            device=options.device,
            precision=options.precision,
            engine=options.engine,
            memory_gib=options.memory_gib,
            cache=_cache_folder(),
            extras=Extras(options.uncertainty, options.save_probabilities, instances),
            ahead=options.workers > 0,
            part=Part.parse(options.part) if options.part else None,
            overwrite=options.overwrite,
        )
        result = predict_files(request, progress)
    done, kept, failed = result.done, result.kept, len(result.problems)
    for provenance in done:
        for warning in provenance.warnings:
            print(f"{provenance.case_id}: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps([p.model_dump(mode="json") for p in done], indent=2))
    else:
        also = f"; kept {kept} that were there (--overwrite replaces them)" if kept else ""
        if kept and request.extras != Extras():
            also += ", and wrote nothing else for those"
        print(
            f"Wrote {_counted(len(done), 'mask')} to {options.output} with "
            f"{_counted(len(models), 'model')}{also}."
        )
    raise_if_any(result.problems, f"{failed} of {failed + len(done)} scans could not be segmented")


def _trained_models(options: argparse.Namespace) -> list[Path]:
    """Those of the work folder, the first stage of a cascade among them."""
    from autoseg.errors import AutosegError
    from autoseg.work_folder import WorkFolder

    work = WorkFolder(options.work)
    if not work.root.is_dir():
        raise AutosegError(
            f"{work.root}: nothing is planned here yet. Run `autoseg plan DATASET` first, or "
            "name the work folder with --work, or model files with --model."
        )
    plan = work.plan(options.plan)
    configuration = plan.configuration(options.configuration)
    models = work.trained_models(plan.name, configuration.name)
    if not models:
        raise AutosegError(
            f"{work.root}: no {configuration.name} model of plan {plan.name!r} is trained "
            "yet. Run `autoseg train` first, or name model files with --model."
        )
    if configuration.previous_stage is not None:
        models += work.trained_models(plan.name, configuration.previous_stage)
    return models


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


def evaluate(options: argparse.Namespace) -> None:
    """`autoseg evaluate`."""
    from autoseg.cli.screens import evaluation_screen
    from autoseg.evaluation.evaluate import evaluate_folders

    with _progress() as progress:
        evaluation = evaluate_folders(
            options.predictions, options.references, _workers(options), progress
        )
    print(
        evaluation.model_dump_json(indent=2) if options.json else evaluation_screen(evaluation, {})
    )


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
    from autoseg.cli.screens import evaluation_screen
    from autoseg.pipeline.demo import run_demo

    with _progress() as progress, _training_view(0) as view:
        evaluation, names, report = run_demo(options.output, options.minutes, view, progress)
    print("Scans that were never seen, predicted in full:")
    print(evaluation_screen(evaluation, names))
    print(f"The report with pictures is {report}; scans, masks and model lie beside it.")


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


def _launch() -> Any:
    """Which process this is, as torchrun says in the environment."""
    from autoseg.pipeline.train import Launch

    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    return Launch(*(int(os.environ.get(name, default)) for name, default in names.items()))


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
