"""`autoseg explain`."""

import argparse
import json

from autoseg.cli.options import VerbTable, add_plan_name, add_verb, add_work


def add(table: VerbTable) -> None:
    more = "Without a field, one line for each decision; with one, rule, facts and source."
    parser = add_verb(table, "explain", run, "say why the plan is what it is", more)
    parser.add_argument("field", nargs="?", help="such as patch_size_vox or loss")
    add_plan_name(parser)
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the decisions as JSON")


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.reasons import explain_screen, find_decisions
    from autoseg.work_folder import WorkFolder

    decisions = find_decisions(WorkFolder(options.work).plan(options.plan), options.field)
    if options.json:
        print(json.dumps([d.model_dump(mode="json") for d in decisions], indent=2))
    else:
        print(explain_screen(decisions, in_full=options.field is not None))
