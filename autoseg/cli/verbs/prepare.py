"""`autoseg prepare`."""

import argparse

from autoseg.cli.options import (
    VerbTable,
    add_plan_name,
    add_verb,
    add_work,
    add_workers,
    workers,
)


def add(table: VerbTable) -> None:
    more = "Only what is missing or changed is done; `autoseg train` does it by itself."
    parser = add_verb(table, "prepare", run, "put all scans on the plan's grid", more)
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        nargs="+",
        help="one or more, such as 2d 3d_fullres (default: as planned)",
    )
    parser.add_argument(
        "--memory-gb",
        dest="memory_gib",
        type=float,
        metavar="GIB",
        help="memory in GiB for all processes together (default: three quarters of what is free)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check all that was prepared before, and prepare again what is damaged",
    )
    add_plan_name(parser)
    add_workers(parser)
    add_work(parser)


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.pipeline.prepare import Resources, prepare, remove_damaged
    from autoseg.work_folder import WorkFolder

    work, names = WorkFolder(options.work), options.configuration or ()
    resources = Resources(workers(options), options.memory_gib)
    with ProgressBars() as progress:
        if options.verify:
            checked, damaged = remove_damaged(work, options.plan, names, progress)
        done, folders = prepare(work, options.plan, names, resources, progress)
    where = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    if options.verify:
        print(f"Checked {checked} prepared files; {damaged} were damaged.")
    print(f"Prepared {done} cases in {where}. What was there already is kept.")
