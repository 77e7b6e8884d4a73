"""`autoseg demo`."""

import argparse
from pathlib import Path

from autoseg.cli.options import VerbTable, add_verb


def add(table: VerbTable) -> None:
    more = "Synthetic scans are made from a seed, and held-out ones are predicted and scored."
    parser = add_verb(table, "demo", run, "run the whole job on a small synthetic dataset", more)
    parser.add_argument(
        "output", type=Path, nargs="?", default=Path("autoseg_demo"), help="default: ./autoseg_demo"
    )
    parser.add_argument("--minutes", type=float, default=2.2, help="training time (default: 2.2)")


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars, training_view
    from autoseg.cli.scores import evaluation_screen
    from autoseg.pipeline.demo import run_demo

    with ProgressBars() as progress, training_view(0) as view:
        evaluation, names, report = run_demo(options.output, options.minutes, view, progress)
    print("Scans that were never seen, predicted in full:")
    print(evaluation_screen(evaluation.model_copy(update={"names": names})))
    print(f"The report with figures is {report}; scans, masks and model lie beside it.")
