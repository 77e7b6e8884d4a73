"""The command line: verbs to pipeline stages. Nothing else prints or ends the process."""

import argparse
import errno
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

from autoseg import __version__

INTERRUPTED, TERMINATED = 130, 143


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit code is 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    from autoseg.errors import AutosegError

    try:
        code: int | None = options.run(options)
    except AutosegError as error:
        print(f"autoseg {options.verb}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            print(
                f"autoseg {options.verb}: {error.filename or ''}: {error.strerror or error}. Check "
                "the path and its permissions.",
                file=sys.stderr,
            )
            return 1
        print(
            f"autoseg {options.verb}: the disk is full ({error.filename or error}). Free some "
            "space and run the same command again; a training goes on with --resume.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"autoseg {options.verb}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoseg",
        description="Self-configuring segmentation of medical images.",
        epilog="Each verb explains itself: autoseg VERB --help",
    )
    parser.add_argument("--version", action="version", version=f"autoseg {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_plan(verbs)
    _add_explain(verbs)
    _add_prepare(verbs)
    _add_train(verbs)
    _add_predict(verbs)
    _add_evaluate(verbs)
    _add_doctor(verbs)
    _add_demo(verbs)
    return parser


def _add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, more: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}"
    )
    parser.set_defaults(run=run)
    return parser


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("autoseg_work"),
        metavar="DIR",
        help="work folder (default: ./autoseg_work)",
    )


def _add_plan(verbs: Any) -> None:
    more = "Nothing but the work folder is written; `autoseg explain` gives every reason."
    parser = _add_verb(verbs, "plan", _plan, "look at a dataset and decide everything", more)
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument(
        "--rules", metavar="NAME|DIR", help="rule set: nnunet, default, cpu, or own"
    )
    parser.add_argument(
        "--for", dest="target", metavar="cpu|gpu:GB", help="plan for another machine than this one"
    )
    parser.add_argument("--name", help="name of the plan (default: the rule set's)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a plan of this name, with its models"
    )
    _add_workers(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_explain(verbs: Any) -> None:
    more = "Without a field, one line for each decision; with one, rule, facts and source."
    parser = _add_verb(verbs, "explain", _explain, "say why the plan is what it is", more)
    parser.add_argument("field", nargs="?", help="such as patch_size_vox or loss")
    _add_plan_name(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the decisions as JSON")


def _add_prepare(verbs: Any) -> None:
    more = "Only what is missing or changed is done; `autoseg train` does it by itself."
    parser = _add_verb(verbs, "prepare", _prepare, "put all scans on the plan's grid", more)
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_workers(parser)
    _add_work(parser)


def _add_train(verbs: Any) -> None:
    more = "At the end the held-out cases are predicted in full and evaluated."
    parser = _add_verb(verbs, "train", _train, "train one or more folds", more)
    parser.add_argument(
        "--fold",
        nargs="+",
        metavar="N",
        help="fold numbers, or `all` to train on every case (default: all folds in order)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="N", help="length in epochs")
    length.add_argument("--iterations", type=int, metavar="N", help="length in iterations")
    length.add_argument(
        "--minutes", type=float, metavar="M", help="length in minutes; the schedule follows them"
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="random seed (default: 0)")
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument(
        "--resume", action="store_true", help="go on where earlier trainings stopped"
    )
    going_on.add_argument("--overwrite", action="store_true", help="replace an earlier training")
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_work(parser)


def _add_predict(verbs: Any) -> None:
    more = "Masks are NIfTI files on each scan's own grid, named like the scans."
    parser = _add_verb(verbs, "predict", _predict, "segment scans with trained models", more)
    parser.add_argument("inputs", type=Path, nargs="+", help="scans, or folders of scans")
    parser.add_argument("output", type=Path, help="folder for the masks")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="model files to average (default: all trained folds of the work folder)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace masks that exist")
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print each mask's provenance as JSON")


def _add_evaluate(verbs: Any) -> None:
    more = "Masks and references are paired by name; a class absent from both has no Dice."
    parser = _add_verb(verbs, "evaluate", _evaluate, "score masks against references", more)
    parser.add_argument("predictions", type=Path, help="folder of masks")
    parser.add_argument("references", type=Path, help="folder of reference masks")
    _add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")


def _add_doctor(verbs: Any) -> None:
    more = "It looks at hardware, versions, memory and disk, and changes nothing."
    parser = _add_verb(verbs, "doctor", _doctor, "say what this machine offers and lacks", more)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_demo(verbs: Any) -> None:
    more = "Synthetic scans are made from a seed, and held-out ones are predicted and scored."
    parser = _add_verb(verbs, "demo", _demo, "run the whole job on a small synthetic dataset", more)
    parser.add_argument(
        "output", type=Path, nargs="?", default=Path("autoseg_demo"), help="default: ./autoseg_demo"
    )
    parser.add_argument("--minutes", type=float, default=2.2, help="training time (default: 2.2)")


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configuration", metavar="NAME", help="2d or 3d_fullres (default: the plan's choice)"
    )


def _add_plan_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", metavar="NAME", help="plan to use (default: the latest one made)")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core; 1: in-process)"
    )


def _plan(options: argparse.Namespace) -> None:
    from autoseg.pipeline import PlanRequest, plan_dataset
    from autoseg.screens import plan_screen
    from autoseg.work import WorkFolder

    request = PlanRequest(options.rules, options.target, options.name, options.overwrite)
    work = WorkFolder(options.work)
    with _progress() as progress:
        plan, fingerprint = plan_dataset(
            options.dataset, work, request, _workers(options), progress
        )
    if options.json:
        print(plan.model_dump_json(indent=2))
    else:
        print(plan_screen(plan, fingerprint, work.plan_path(plan.name)))


def _explain(options: argparse.Namespace) -> None:
    from autoseg.screens import explain_screen, find_decisions
    from autoseg.work import WorkFolder

    decisions = find_decisions(WorkFolder(options.work).plan(options.plan), options.field)
    if options.json:
        print(json.dumps([d.model_dump(mode="json") for d in decisions], indent=2))
    else:
        print(explain_screen(decisions, in_full=options.field is not None))


def _prepare(options: argparse.Namespace) -> None:
    from autoseg.pipeline import prepare
    from autoseg.work import WorkFolder

    with _progress() as progress:
        done, folder = prepare(
            WorkFolder(options.work),
            options.plan,
            options.configuration,
            _workers(options),
            progress,
        )
    print(f"Prepared {done} cases in {folder}; the others were there already.")


def _train(options: argparse.Namespace) -> int:
    from autoseg.errors import AutosegError
    from autoseg.pipeline import TrainRequest, earlier_training, train_fold
    from autoseg.screens import fold_screen
    from autoseg.work import WorkFolder

    work = WorkFolder(options.work)
    wrong = [f for f in options.fold or [] if f != "all" and not f.isdecimal()]
    if wrong:
        raise AutosegError(f"--fold {wrong[0]}: expected fold numbers, or all.")
    names = (
        list(dict.fromkeys(options.fold or []))
        or [str(i) for i in range(len(work.splits().folds))]
        or ["all"]
    )
    requests = [
        TrainRequest(
            fold=None if name == "all" else int(name),
            plan_name=options.plan,
            configuration=options.configuration,
            epochs=options.epochs,
            iterations=options.iterations,
            minutes=options.minutes,
            seed=options.seed,
            resume=options.resume,
            overwrite=options.overwrite,
        )
        for name in names
    ]
    for request in requests:  # all of them, before the first one takes hours
        earlier_training(work, request)
    stop = Event()
    caught = _stop_gently(stop)
    for name, request in zip(names, requests, strict=True):
        try:
            with _progress() as progress, _training_view(name) as view:
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
        print(fold_screen(result, work.plan(options.plan).labels))
    return 0


def _predict(options: argparse.Namespace) -> None:
    from autoseg.errors import AutosegError
    from autoseg.pipeline import predict_files
    from autoseg.work import WorkFolder

    models = options.model
    if not models:
        work = WorkFolder(options.work)
        plan = work.plan(options.plan)
        configuration = plan.configuration(options.configuration)
        models = work.trained_models(plan.name, configuration.name)
        if not models:
            raise AutosegError(
                f"{work.root}: no {configuration.name} model of plan {plan.name!r} is trained "
                "yet. Run `autoseg train` first, or name model files with --model."
            )
    with _progress() as progress:
        done, kept = predict_files(
            options.inputs, options.output, models, options.overwrite, progress
        )
    for provenance in done:
        for warning in provenance.warnings:
            print(f"{provenance.case_id}: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps([p.model_dump(mode="json") for p in done], indent=2))
        return
    also = f"; kept {kept} that were there (--overwrite replaces them)" if kept else ""
    print(f"Wrote {len(done)} masks to {options.output} with {len(models)} model(s){also}.")


def _evaluate(options: argparse.Namespace) -> None:
    from autoseg.evaluation.evaluate import evaluate_folders
    from autoseg.screens import evaluation_screen

    with _progress() as progress:
        evaluation = evaluate_folders(
            options.predictions, options.references, _workers(options), progress
        )
    print(
        evaluation.model_dump_json(indent=2) if options.json else evaluation_screen(evaluation, {})
    )


def _doctor(options: argparse.Namespace) -> None:
    from autoseg.doctor import examine
    from autoseg.screens import doctor_screen

    findings = examine(Path())
    if options.json:
        print(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2))
    else:
        print(doctor_screen(findings))


def _demo(options: argparse.Namespace) -> None:
    from autoseg.demo import run_demo
    from autoseg.screens import evaluation_screen

    with _progress() as progress, _training_view("0") as view:
        evaluation, names, report = run_demo(options.output, options.minutes, view, progress)
    print("Scans that were never seen, predicted in full:")
    print(evaluation_screen(evaluation, names))
    print(f"The report with pictures is {report}; scans, masks and model lie beside it.")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return int(text)


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
    from autoseg.screens import ProgressBars

    return ProgressBars()


def _training_view(fold: str) -> Any:
    from autoseg.screens import TrainingView

    def write(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)

    return TrainingView(fold, write, live=sys.stderr.isatty())


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


def _terminate(number: int, frame: FrameType | None) -> None:
    print("autoseg: terminated.", file=sys.stderr)
    raise SystemExit(TERMINATED)
