"""`autoseg report`."""

import argparse
from pathlib import Path

from autoseg.cli.options import VerbTable, add_plan_name, add_verb, add_work


def add(table: VerbTable) -> None:
    more = "Data, plan and reasons, trainings, scores and pictures: as far as the work has come."
    parser = add_verb(table, "report", run, "write one HTML page of all there is", more)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the work folder"
    )
    add_plan_name(parser)
    add_work(parser)


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.pipeline.report import ReportJob, report_work

    job = ReportJob(work=options.work, plan=options.plan, out=options.out)
    with ProgressBars() as progress:
        path = report_work(job, progress=progress)
    print(path)
