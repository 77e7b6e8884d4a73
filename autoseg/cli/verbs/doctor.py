"""`autoseg doctor`."""

import argparse
import json
from pathlib import Path

from autoseg.cli.options import VerbTable, add_verb


def add(table: VerbTable) -> None:
    more = "It looks at hardware, versions, memory and disk, and changes nothing."
    parser = add_verb(table, "doctor", run, "say what this machine offers and lacks", more)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> None:
    from autoseg.cli.screens import doctor_screen
    from autoseg.pipeline.doctor import examine

    findings = examine(Path())
    if options.json:
        print(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2))
    else:
        print(doctor_screen(findings))
