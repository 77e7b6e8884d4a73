"""`autoseg export`: a verb with three kinds."""

import argparse
import json
import sys
from pathlib import Path

from autoseg.cli.options import VerbTable, add_configuration, add_plan_name, add_verb, add_work


def add(table: VerbTable) -> None:
    more = "One file with all that was selected, or what other tools and runtimes read."
    parser = add_verb(table, "export", run, "write models for elsewhere", more)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_model(kinds)
    _add_nnunet(kinds)
    _add_onnx(kinds)


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


def _add_onnx(kinds: VerbTable) -> None:
    more = "Each graph has a card beside it that says all that other programs need to use it."
    parser = add_verb(kinds, "onnx", run, "write networks that other runtimes run", more)
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="model", help="model files, or one pack"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for graphs and cards"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), help="write this alone (default: both)"
    )
    parser.add_argument(
        "--no-mirrors",
        action="store_true",
        help="leave averaging over mirror images, up to eight times the work, to the program",
    )
    add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the cards as JSON")


def run(options: argparse.Namespace) -> None:
    if options.kind == "model":
        _export_model(options)
    elif options.kind == "nnunet":
        _export_nnunet(options)
    else:
        _export_onnx(options)


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


def _export_onnx(options: argparse.Namespace) -> None:
    from autoseg.cli.progress import ProgressBars
    from autoseg.interop.onnx_export import PRECISIONS, OnnxJob, export_networks

    job = OnnxJob(
        models=tuple(options.models),
        output=options.out,
        precisions=(options.precision,) if options.precision else PRECISIONS,
        mirrored=not options.no_mirrors,
        work=options.work,
    )
    with ProgressBars() as progress:
        cards = export_networks(job, progress)
    if options.json:
        print(json.dumps([card.model_dump(mode="json") for card in cards], indent=2))
        return
    for card in cards:
        for file in card.files:
            print(f"{options.out / file.file} (opset {card.opset})")
            for parity in file.parity:
                print(f"  {parity.in_a_line()}")
