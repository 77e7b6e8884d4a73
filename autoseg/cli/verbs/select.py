"""`autoseg select`."""

import argparse
import sys

from autoseg.cli.environment import cache_folder
from autoseg.cli.options import VerbTable, add_device, add_verb, add_work, add_workers, workers


def add(table: VerbTable) -> None:
    more = "Held-out cases are predicted by the models of their fold; `predict` follows the choice."
    parser = add_verb(
        table, "select", run, "choose among trained configurations and ensembles", more
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="what decides, of those of evaluate (default: dice)"
    )
    parser.add_argument(
        "--as",
        dest="rules",
        choices=("autoseg", "nnunet"),
        default="autoseg",
        help="nnunet: single models, pairs and post-processing by nnU-Net's own rules",
    )
    parser.add_argument(
        "--configuration", metavar="NAME", nargs="+", help="only these (default: all trained)"
    )
    parser.add_argument("--plan", metavar="NAME", nargs="+", help="only these (default: all)")
    add_device(parser)
    add_workers(parser)
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print selection.json")


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.cli.selection_screen import selection_screen
    from autoseg.pipeline.held_out import Running
    from autoseg.pipeline.select import SelectJob, select

    job = SelectJob(
        work=options.work,
        plans=tuple(options.plan or ()),
        configurations=tuple(options.configuration or ()),
        metric=options.metric or "dice",
        rules=options.rules,
        running=Running(device=options.device, cache=cache_folder()),
    )
    with ProgressBars() as progress:
        selection = select(job, workers(options), progress)
    for note in selection.notes:
        print(note, file=sys.stderr)
    if options.json:
        print(selection.model_dump_json(indent=2))
    else:
        print(selection_screen(selection, options.work))
