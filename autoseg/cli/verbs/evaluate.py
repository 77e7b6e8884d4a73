"""`autoseg evaluate`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.cli.options import (
    VerbTable,
    add_plan_name,
    add_verb,
    add_work,
    add_workers,
    positive,
    workers,
)

if TYPE_CHECKING:
    from autoseg.evaluation.comparison import SideBySide
    from autoseg.pipeline.evaluate import EvaluateJob


def add(table: VerbTable) -> None:
    more = (
        "Masks and references are paired by name; a class absent from both has no Dice. Without "
        "folders, what the trained folds of the work folder held out is scored."
    )
    parser = add_verb(table, "evaluate", run, "score masks against references", more)
    _add_masks(parser)
    _add_measures(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per case and class")
    parser.add_argument(
        "--configuration",
        nargs="+",
        metavar="NAME",
        default=[],
        help="without folders: which to score (default: all that are trained)",
    )
    add_plan_name(parser)
    add_workers(parser)
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")


def _add_masks(parser: argparse.ArgumentParser) -> None:
    """What is scored, and drawn."""
    predictions = parser.add_argument(
        "predictions",
        type=Path,
        nargs="+",
        help="folder of masks, or one mask; the first of several is compared with each other one",
    )
    references = parser.add_argument(
        "references", type=Path, help="folder of reference masks, or one of them"
    )
    # Both or none. As optional positionals they could not have options between them.
    predictions.required = references.required = False
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names, regions and ignore label: dataset.json, plan or model (default: looked for)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="also draw masks and references, in the folder pictures beside the masks",
    )
    parser.add_argument(
        "--scans",
        type=Path,
        metavar="DIR",
        help="scans for --pictures (default: imagesTr or the like beside the references)",
    )


def _add_measures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        default=[],
        help="only these (default: all); `--metrics list` shows them",
    )
    parser.add_argument(
        "--surfaces",
        choices=("voxel", "area"),
        default="voxel",
        help="surfaces as voxels, or as elements with an area (default: voxel)",
    )
    parser.add_argument(
        "--tolerance",
        nargs="+",
        type=_tolerance,
        metavar="MM|CLASS=MM",
        default=[],
        help="of the normalised surface Dice, for all classes or some (default: 2)",
    )


def _tolerance(text: str) -> tuple[str | None, float]:
    name, is_named, length_mm = text.rpartition("=")
    return (name if is_named else None), positive(length_mm)


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.cli.scores import metrics_screen
    from autoseg.evaluation.score_table import write_scores
    from autoseg.pipeline.evaluate import evaluate_masks

    if "list" in options.metrics:
        print(metrics_screen())
        return
    job = _job(options)
    with ProgressBars() as progress:
        outcome = evaluate_masks(job, workers(options), progress)
        evaluations = list(outcome.evaluations.values())
        notes = [note for evaluation in evaluations for note in evaluation.notes]
        if options.pictures:
            from autoseg.pipeline.pictures import draw_evaluated

            notes += draw_evaluated(job, evaluations, options.scans, workers(options), progress)
    for note in dict.fromkeys(notes):
        print(f"Note: {note.removesuffix('.')}.", file=sys.stderr)
    if options.csv:
        write_scores(outcome.evaluations, options.csv)
    _show(outcome, options)


def _job(options: argparse.Namespace) -> "EvaluateJob":
    from autoseg.pipeline.evaluate import EvaluateJob

    tolerance_mm, tolerances_mm = _tolerances(options.tolerance)
    return EvaluateJob(
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


def _tolerances(given: list[tuple[str | None, float]]) -> tuple[float | None, dict[str, float]]:
    """Of all classes, and of some by name."""
    for_all = [length_mm for name, length_mm in given if name is None]
    by_name = {name: length_mm for name, length_mm in given if name is not None}
    return (for_all[-1] if for_all else None), by_name


def _show(outcome: "SideBySide", options: argparse.Namespace) -> None:
    from autoseg.cli.scores import comparison_screen, evaluation_screen

    (first, *others) = outcome.evaluations.values()
    if options.json:
        print((outcome if others else first).model_dump_json(indent=2))
        return
    for name, evaluation in outcome.evaluations.items():
        title = f"{name}:\n" if others else ""
        print(f"{title}{evaluation_screen(evaluation, options.metrics)}")
    for comparison in outcome.comparisons:
        print(comparison_screen(comparison, first, options.metrics))
