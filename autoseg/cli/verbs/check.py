"""`autoseg check`."""

import argparse
import json
import sys
from pathlib import Path

from autoseg.cli.options import VerbTable, add_verb, add_workers, workers


def add(table: VerbTable) -> None:
    more = "All problems are reported together; the exit code is 1 when there are errors."
    parser = add_verb(table, "check", run, "read every file and say what is wrong", more)
    parser.add_argument("dataset", type=Path, help="dataset folder, manifest, or a single scan")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a corrected copy there, where that is safe"
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """1 when the dataset has errors, or a corrected copy leaves something out."""
    from autoseg.cli.progress import ProgressBars
    from autoseg.cli.screens import check_screen, repair_screen
    from autoseg.pipeline.check import check_dataset

    with ProgressBars() as progress:
        report, repairs = check_dataset(options.dataset, options.fix, workers(options), progress)
    if options.json:
        problems = [p.model_dump() | {"severity": p.severity} for p in report.problems]
        print(json.dumps(report.model_dump() | {"problems": problems}, indent=2))
    else:
        print(check_screen(report))
    if options.fix:
        print(repair_screen(options.fix, repairs), file=sys.stderr)
        return 1 if any(repair.left_out for repair in repairs) else 0
    return 1 if report.count("error") else 0
