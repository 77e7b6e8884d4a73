"""`autoseg import`."""

import argparse
from pathlib import Path

from autoseg.cli.options import VerbTable, add_verb


def add(table: VerbTable) -> None:
    more = "Nothing that is in the files is run; what autoseg would compute otherwise is refused."
    parser = add_verb(table, "import", run, "read models of another tool", more)
    parser.add_argument("tool", choices=("nnunet",), help="nnunet: trained models of nnU-Net v2")
    parser.add_argument("source", type=Path, help="folder of trained models, or a zip of it")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the autoseg models"
    )


def run(options: argparse.Namespace) -> None:
    from autoseg.interop.nnunet_models import import_models

    for path in import_models(options.source, options.out):
        print(path)
