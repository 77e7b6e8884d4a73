"""`autoseg export`: a verb with two kinds."""

import argparse
import sys
from pathlib import Path

from autoseg.cli.options import VerbTable, add_configuration, add_plan_name, add_verb, add_work


def add(table: VerbTable) -> None:
    more = "Either one file with all that was selected, or folders that another tool reads."
    parser = add_verb(table, "export", run, "write models for elsewhere", more)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_model(kinds)
    _add_nnunet(kinds)


def _add_model(kinds: VerbTable) -> None:
    more = "All folds, stages and configurations, and what corrects their masks, are in it."
    parser = add_verb(kinds, "model", run, "pack what was selected into one file", more)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("model.safetensors"),
        metavar="FILE",
        help="the file (default: ./model.safetensors)",
    )
    add_configuration(parser)
    add_plan_name(parser)
    add_work(parser)


def _add_nnunet(kinds: VerbTable) -> None:
    more = "What nnU-Net would compute otherwise is refused, or said."
    parser = add_verb(kinds, "nnunet", run, "write folders that nnU-Net v2 predicts with", more)
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="model",
        help="models of one plan: folds, configurations, both stages of a cascade",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to use as nnUNet_results"
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        default="Dataset900_Autoseg",
        help="dataset to call it (default: Dataset900_Autoseg)",
    )


def run(options: argparse.Namespace) -> None:
    if options.kind == "model":
        _export_model(options)
    else:
        _export_nnunet(options)


def _export_model(options: argparse.Namespace) -> None:
    from autoseg.pipeline.pack import pack_models

    packed = pack_models(options.work, options.out, options.plan, options.configuration)
    print(packed.in_a_line())


def _export_nnunet(options: argparse.Namespace) -> None:
    from autoseg.interop.nnunet_export import export_models

    exported = export_models(options.models, options.out, options.dataset)
    for note in exported.notes:
        print(note, file=sys.stderr)
    for folder in exported.folders:
        print(folder)
