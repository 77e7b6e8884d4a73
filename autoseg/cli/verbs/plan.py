"""`autoseg plan`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.cli.options import VerbTable, add_verb, add_work, add_workers, positive, workers

if TYPE_CHECKING:
    from autoseg.pipeline.plan import PlanJob


def add(table: VerbTable) -> None:
    more = "Nothing but the work folder is written; `autoseg explain` gives every reason."
    parser = add_verb(table, "plan", run, "look at a dataset and decide everything", more)
    parser.add_argument("dataset", type=Path, help="dataset folder or manifest")
    _add_wishes(parser)
    parser.add_argument(
        "--html", action="store_true", help="write report.html, with figures, to the work folder"
    )
    parser.add_argument("--name", help="name of the plan (default: the rule set's)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a plan of this name, with its models"
    )
    add_workers(parser)
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    """What the plan is to follow besides the dataset."""
    parser.add_argument(
        "--rules",
        metavar="NAME|DIR",
        help="rule set: cpu (the default without a GPU), default (with one), nnunet, residual_m, "
        "residual_l, residual_xl, fcn, deeplab, segformer, mednext, mask_queries, maskformer, "
        "mask_rcnn, solov2, yolact, flow, or own",
    )
    parser.add_argument(
        "--for", dest="target", metavar="cpu|gpu:GB", help="plan for another machine than this one"
    )
    parser.add_argument(
        "--hours",
        type=positive,
        metavar="H",
        help="plan what trains a fold in so many hours (default: as much as the rules allow)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="run a training step here, and plan what fits"
    )
    parser.add_argument(
        "--like", type=Path, metavar="MODEL", help="keep a model's grid, patch and network"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        default=[],
        help="replace what the rules decided, such as training.epochs=50",
    )


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.cli.screens import plan_screen
    from autoseg.pipeline.plan import plan_dataset
    from autoseg.work_folder import WorkFolder

    job = plan_job(options)
    with ProgressBars() as progress:
        outcome = plan_dataset(job, workers(options), progress)
        if options.html:
            from autoseg.pipeline.report import ReportJob, report_work

            report = ReportJob(work=options.work, plan=outcome.plan.name)
            report_work(report, outcome.problems, progress)
    if options.json:
        print(outcome.plan.model_dump_json(indent=2))
    else:
        print(plan_screen(outcome, WorkFolder(options.work).plan_path(outcome.plan.name)))


def plan_job(options: argparse.Namespace) -> "PlanJob":
    from autoseg.pipeline.plan import PlanJob

    return PlanJob(
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
