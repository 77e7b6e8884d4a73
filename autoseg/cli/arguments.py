"""What can be typed: verbs and their options. Imports nothing that takes time."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoseg.cli import verbs
from autoseg.version import __version__


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoseg",
        description="Self-configuring segmentation of medical images.",
        epilog="Each verb explains itself: autoseg VERB --help",
    )
    parser.add_argument("--version", action="version", version=f"autoseg {__version__}")
    table = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_check(table)
    _add_plan(table)
    _add_explain(table)
    _add_prepare(table)
    _add_train(table)
    _add_predict(table)
    _add_evaluate(table)
    _add_select(table)
    _add_report(table)
    _add_import(table)
    _add_export(table)
    _add_doctor(table)
    _add_demo(table)
    return parser


def _add_verb(
    table: Any, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, more: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = table.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}"
    )
    parser.set_defaults(run=run)
    return parser


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("autoseg_work"),
        metavar="DIR",
        help="work folder (default: ./autoseg_work)",
    )


def _add_check(table: Any) -> None:
    more = "All problems are reported together; the exit code is 1 when there are errors."
    parser = _add_verb(table, "check", verbs.check, "read every file and say what is wrong", more)
    parser.add_argument("dataset", type=Path, help="dataset folder, manifest, or a single scan")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a corrected copy there, where that is safe"
    )
    _add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_plan(table: Any) -> None:
    more = "Nothing but the work folder is written; `autoseg explain` gives every reason."
    parser = _add_verb(table, "plan", verbs.plan, "look at a dataset and decide everything", more)
    parser.add_argument("dataset", type=Path, help="dataset folder or manifest")
    parser.add_argument(
        "--rules",
        metavar="NAME|DIR",
        help="rule set: default, cpu, nnunet, residual_m, residual_l, residual_xl, or own",
    )
    parser.add_argument(
        "--for", dest="target", metavar="cpu|gpu:GB", help="plan for another machine than this one"
    )
    parser.add_argument(
        "--hours",
        type=_positive,
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
        metavar="KEY=VALUE",
        default=[],
        help="replace what the rules decided, such as training.epochs=50",
    )
    parser.add_argument(
        "--html", action="store_true", help="write report.html, with figures, to the work folder"
    )
    parser.add_argument("--name", help="name of the plan (default: the rule set's)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a plan of this name, with its models"
    )
    _add_workers(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_explain(table: Any) -> None:
    more = "Without a field, one line for each decision; with one, rule, facts and source."
    parser = _add_verb(table, "explain", verbs.explain, "say why the plan is what it is", more)
    parser.add_argument("field", nargs="?", help="such as patch_size_vox or loss")
    _add_plan_name(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print the decisions as JSON")


def _add_prepare(table: Any) -> None:
    more = "Only what is missing or changed is done; `autoseg train` does it by itself."
    parser = _add_verb(table, "prepare", verbs.prepare, "put all scans on the plan's grid", more)
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
    _add_plan_name(parser)
    _add_workers(parser)
    _add_work(parser)


def _add_train(table: Any) -> None:
    more = "At the end the held-out cases are predicted in full and evaluated."
    parser = _add_verb(table, "train", verbs.train, "train one or more folds", more)
    parser.add_argument(
        "--fold",
        nargs="+",
        metavar="N",
        help="fold numbers, or `all` to train on every case (default: all folds in order)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_count, metavar="N", help="length in epochs")
    length.add_argument("--iterations", type=_count, metavar="N", help="length in iterations")
    length.add_argument(
        "--minutes",
        type=_positive,
        metavar="M",
        help="length in minutes; the schedule follows them",
    )
    length.add_argument("--hours", type=_positive, metavar="H", help="length in hours")
    parser.add_argument(
        "--init", type=Path, metavar="MODEL", help="start from a model; see plan --like"
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, gpu, or gpu:1 (default: every GPU takes a fold; without any, the CPU)",
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="random seed (default: 0)")
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument(
        "--resume", action="store_true", help="go on where earlier trainings stopped"
    )
    going_on.add_argument("--overwrite", action="store_true", help="replace an earlier training")
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_work(parser)


def _add_predict(table: Any) -> None:
    more = "Masks are NIfTI files on each scan's own grid, named like the scans."
    parser = _add_verb(table, "predict", verbs.predict, "segment scans with trained models", more)
    parser.add_argument("inputs", type=Path, nargs="+", help="scans, or folders of scans")
    parser.add_argument("output", type=Path, help="folder for the masks")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="model files to average, or a pack (default: what was selected, or all trained folds)",
    )
    _add_extras(parser)
    parser.add_argument(
        "--memory-gb",
        dest="memory_gib",
        type=_positive,
        metavar="GIB",
        help="limit of memory in GiB (default: what is free)",
    )
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="only every Nth scan from the Ith, for N processes or machines",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, or gpu:1 (default: a GPU)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="what networks compute in (default: the fastest that suits the device)",
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "openvino", "onnxruntime"),
        help="what runs networks (default: openvino on a CPU, where it is installed)",
    )
    parser.add_argument(
        "--one-at-a-time",
        action="store_true",
        help="read, segment and write scan after scan (default: read and write beside networks)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace masks that exist")
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print each mask's provenance as JSON")


def _add_extras(parser: argparse.ArgumentParser) -> None:
    """What is written besides masks."""
    parser.add_argument(
        "--uncertainty", action="store_true", help="also write maps of entropy and disagreement"
    )
    parser.add_argument(
        "--save-probabilities", action="store_true", help="also write probabilities, as .npz"
    )
    parser.add_argument(
        "--instances", action="store_true", help="also number the objects of each class"
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="also draw each mask's outlines on its scan, as .png",
    )
    parser.add_argument(
        "--min-volume",
        type=_positive,
        default=0.0,
        metavar="MM3",
        help="leave out objects smaller than this, with --instances",
    )


def _add_evaluate(table: Any) -> None:
    more = (
        "Masks and references are paired by name; a class absent from both has no Dice. Without "
        "folders, what the trained folds of the work folder held out is scored."
    )
    parser = _add_verb(table, "evaluate", verbs.evaluate, "score masks against references", more)
    predictions = parser.add_argument(
        "predictions",
        type=Path,
        nargs="+",
        help="folder of masks, or one mask; the first of several is compared with each other one",
    )
    references = parser.add_argument(
        "references", type=Path, help="folder of reference masks, or one of them"
    )
    # Both or none. As optional positionals they could not have options between them.
    predictions.required = references.required = False
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names, regions and ignore label: dataset.json, plan or model (default: looked for)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="also draw masks and references, in the folder pictures beside the masks",
    )
    parser.add_argument(
        "--scans",
        type=Path,
        metavar="DIR",
        help="scans for --pictures (default: imagesTr or the like beside the references)",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        default=[],
        help="only these (default: all); `--metrics list` shows them",
    )
    parser.add_argument(
        "--surfaces",
        choices=("voxel", "area"),
        default="voxel",
        help="surfaces as voxels, or as elements with an area (default: voxel)",
    )
    parser.add_argument(
        "--tolerance",
        nargs="+",
        type=_tolerance,
        metavar="MM|CLASS=MM",
        default=[],
        help="of the normalised surface Dice, for all classes or some (default: 2)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per case and class")
    parser.add_argument(
        "--configuration",
        nargs="+",
        metavar="NAME",
        default=[],
        help="without folders: which to score (default: all that are trained)",
    )
    _add_plan_name(parser)
    _add_workers(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")


def _add_select(table: Any) -> None:
    more = "Held-out cases are predicted by the models of their fold; `predict` follows the choice."
    parser = _add_verb(
        table, "select", verbs.select, "choose among trained configurations and ensembles", more
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
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, or gpu:1 (default: a GPU)")
    _add_workers(parser)
    _add_work(parser)
    parser.add_argument("--json", action="store_true", help="print selection.json")


def _add_report(table: Any) -> None:
    more = "Data, plan and reasons, trainings, scores and pictures: as far as the work has come."
    parser = _add_verb(table, "report", verbs.report, "write one HTML page of all there is", more)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the work folder"
    )
    _add_plan_name(parser)
    _add_work(parser)


def _add_import(table: Any) -> None:
    more = "Nothing that is in the files is run; what autoseg would compute otherwise is refused."
    parser = _add_verb(table, "import", verbs.import_nnunet, "read models of another tool", more)
    parser.add_argument("tool", choices=("nnunet",), help="nnunet: trained models of nnU-Net v2")
    parser.add_argument("source", type=Path, help="folder of trained models, or a zip of it")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the autoseg models"
    )


def _add_export(table: Any) -> None:
    more = "Either one file with all that was selected, or folders that another tool reads."
    parser = _add_verb(table, "export", verbs.export_model, "write models for elsewhere", more)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_export_model(kinds)
    _add_export_nnunet(kinds)


def _add_export_model(kinds: Any) -> None:
    more = "All folds, stages and configurations, and what corrects their masks, are in it."
    parser = _add_verb(
        kinds, "model", verbs.export_model, "pack what was selected into one file", more
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("model.safetensors"),
        metavar="FILE",
        help="the file (default: ./model.safetensors)",
    )
    _add_configuration(parser)
    _add_plan_name(parser)
    _add_work(parser)


def _add_export_nnunet(kinds: Any) -> None:
    more = "What nnU-Net would compute otherwise is refused, or said."
    parser = _add_verb(
        kinds, "nnunet", verbs.export_nnunet, "write folders that nnU-Net v2 predicts with", more
    )
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


def _add_doctor(table: Any) -> None:
    more = "It looks at hardware, versions, memory and disk, and changes nothing."
    parser = _add_verb(
        table, "doctor", verbs.doctor, "say what this machine offers and lacks", more
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_demo(table: Any) -> None:
    more = "Synthetic scans are made from a seed, and held-out ones are predicted and scored."
    parser = _add_verb(
        table, "demo", verbs.demo, "run the whole job on a small synthetic dataset", more
    )
    parser.add_argument(
        "output", type=Path, nargs="?", default=Path("autoseg_demo"), help="default: ./autoseg_demo"
    )
    parser.add_argument("--minutes", type=float, default=2.2, help="training time (default: 2.2)")


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        help="such as 2d or 3d_fullres (default: the plan's choice)",
    )


def _add_plan_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", metavar="NAME", help="plan to use (default: the latest one made)")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core; 1: in-process)"
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _tolerance(text: str) -> tuple[str | None, float]:
    name, is_named, length_mm = text.rpartition("=")
    return (name if is_named else None), _positive(length_mm)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return int(text)
