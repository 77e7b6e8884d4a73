"""`autoseg train`."""

import argparse
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from autoseg.cli.environment import cache_folder, rank
from autoseg.cli.interruption import interruptible, stop_gently
from autoseg.cli.options import (
    VerbTable,
    add_configuration,
    add_plan_name,
    add_verb,
    add_work,
    positive,
)

if TYPE_CHECKING:
    from autoseg.pipeline.jobs import TrainJob
    from autoseg.training.schedule import Budget


def add(table: VerbTable) -> None:
    more = "At the end the held-out cases are predicted in full and evaluated."
    parser = add_verb(table, "train", run, "train one or more folds", more)
    parser.add_argument(
        "--fold",
        nargs="+",
        metavar="N",
        help="fold numbers, or `all` to train on every case (default: all folds in order)",
    )
    _add_length(parser)
    parser.add_argument(
        "--init", type=Path, metavar="MODEL", help="start from a model; see plan --like"
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, gpu, or gpu:1 (default: every GPU takes a fold; without any, the CPU)",
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="random seed (default: 0)")
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument(
        "--resume", action="store_true", help="go on where earlier trainings stopped"
    )
    going_on.add_argument("--overwrite", action="store_true", help="replace an earlier training")
    add_configuration(parser)
    add_plan_name(parser)
    add_work(parser)


def _add_length(parser: argparse.ArgumentParser) -> None:
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_count, metavar="N", help="length in epochs")
    length.add_argument("--iterations", type=_count, metavar="N", help="length in iterations")
    length.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="length in minutes; the schedule follows them",
    )
    length.add_argument("--hours", type=positive, metavar="H", help="length in hours")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """0, or the exit code of the signal that stopped it."""
    from autoseg.cli.progress import ProgressBars
    from autoseg.pipeline.executors import gpus_here, train_on
    from autoseg.pipeline.jobs import jobs_in_order

    jobs = jobs_in_order(train_jobs(options))
    stop = Event()
    caught = stop_gently(stop)
    if jobs[0].rank.world_size == 1 and options.device is None and len(jobs) > 1:
        devices = gpus_here()
        if len(devices) > 1:
            with ProgressBars() as progress:
                train_on(devices, jobs, stop, interruptible(progress, stop))
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


def train_jobs(options: argparse.Namespace) -> "list[TrainJob]":
    """A job for each fold that is asked for, in that order. Raises AutosegError for other words."""
    from autoseg.pipeline.jobs import TrainJob

    return [
        TrainJob(
            fold=None if name == "all" else int(name),
            work=options.work,
            plan=options.plan,
            configuration=options.configuration,
            budget=_budget(options),
            seed=options.seed,
            initial_model=options.init,
            device=options.device,
            cache=cache_folder(),
            start="resume" if options.resume else "over" if options.overwrite else "anew",
            rank=rank(),
        )
        for name in _fold_names(options)
    ]


def _fold_names(options: argparse.Namespace) -> list[str]:
    """Of those that are asked for, or of all that are planned; `all` is one on every case."""
    from autoseg.errors import AutosegError
    from autoseg.work_folder import WorkFolder

    wrong = [f for f in options.fold or [] if f != "all" and not f.isdecimal()]
    if wrong:
        raise AutosegError(f"--fold {wrong[0]}: expected fold numbers, or all.")
    folds = WorkFolder(options.work).splits().folds
    named = list(dict.fromkeys(options.fold or []))
    return named or [str(index) for index in range(len(folds))] or ["all"]


def _budget(options: argparse.Namespace) -> "Budget":
    from autoseg.training.schedule import Budget

    hours = options.minutes / 60 if options.minutes else options.hours
    return Budget(
        epochs=options.epochs,
        iterations=options.iterations,
        seconds=3600 * hours if hours else None,
    )


def _train_here(job: "TrainJob", stop: Event) -> None:
    """Train one fold in this process, and show it."""
    from autoseg.cli.progress import ProgressBars, training_view
    from autoseg.cli.screens import fold_screen
    from autoseg.pipeline.train import train_fold
    from autoseg.work_folder import WorkFolder

    try:
        with ProgressBars() as progress, training_view(job.fold, job.rank.rank) as view:
            result = train_fold(job, view, stop, interruptible(progress, stop))
    except KeyboardInterrupt:
        stop.set()
    if not stop.is_set() and job.rank.rank == 0:
        print(fold_screen(result, WorkFolder(job.work).plan(job.plan).labels))
