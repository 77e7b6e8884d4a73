"""`autoseg predict`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.cli.environment import cache_folder
from autoseg.cli.options import (
    VerbTable,
    add_configuration,
    add_device,
    add_plan_name,
    add_verb,
    add_work,
    not_negative,
    positive,
)

if TYPE_CHECKING:
    from autoseg.pipeline.mask_writer import Extras
    from autoseg.pipeline.predict import PredictJob, PredictResult
    from autoseg.pipeline.selected import ModelsToUse


def add(table: VerbTable) -> None:
    more = "Masks are NIfTI files on each scan's own grid, named like the scans."
    parser = add_verb(table, "predict", run, "segment scans with trained models", more)
    parser.add_argument("inputs", type=Path, nargs="+", help="scans, or folders of scans")
    parser.add_argument("output", type=Path, help="folder for the masks")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="model files to average, or a pack (default: what was selected, or all trained folds)",
    )
    parser.add_argument(
        "--series",
        nargs="+",
        default=[],
        metavar="CHANNEL=PATTERN",
        help="which DICOM series each channel is, by its description, such as T1='*mprage*'",
    )
    _add_extras(parser)
    _add_means(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace masks that exist")
    add_configuration(parser)
    add_plan_name(parser)
    add_work(parser)
    parser.add_argument(
        "--json", action="store_true", help="print what became of each scan as JSON"
    )


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
        "--format",
        nargs="+",
        default=[],
        choices=(
            "dicom-seg",
            "dicom-labelmap",
            "dicom-fractional",
            "rtstruct",
            "bids",
            "coco",
            "panoptic",
        ),
        help="also write masks in these formats, each in a folder of its name",
    )
    parser.add_argument(
        "--codes",
        type=Path,
        metavar="FILE",
        help="a table (.toml) of SNOMED codes by class, for DICOM SEG",
    )
    parser.add_argument(
        "--min-volume",
        type=not_negative,
        metavar="MM3",
        help="leave out objects smaller than this, with --instances (default: what the plan says)",
    )


def _add_means(parser: argparse.ArgumentParser) -> None:
    """What computes, and how."""
    parser.add_argument(
        "--memory-gb",
        dest="memory_gib",
        type=positive,
        metavar="GIB",
        help="limit of memory in GiB (default: what is free)",
    )
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="only every Nth scan from the Ith, for N processes or machines",
    )
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="what networks compute in (default: what is measured to be fastest here)",
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "openvino", "onnxruntime", "tensorrt"),
        help="what runs networks (default: what is measured to be fastest here)",
    )
    parser.add_argument(
        "--one-at-a-time",
        action="store_true",
        help="read, segment and write scan after scan (default: read and write beside networks)",
    )


def run(options: argparse.Namespace) -> None:
    """Raises AutosegError, once all else is written and shown, for scans that could not be."""
    from autoseg.cli.progress import ProgressBars
    from autoseg.errors import raise_if_any
    from autoseg.pipeline.executors import gpus_here, predict_on
    from autoseg.pipeline.predict import predict_files

    chosen = _chosen_models(options)
    if chosen.told:
        print(chosen.told, file=sys.stderr)
    job = _job(options, chosen)
    devices = gpus_here() if job.device is None and job.part is None else []
    with ProgressBars() as progress:
        if len(devices) > 1:
            result = predict_on(devices, job, progress)
        else:
            result = predict_files(job, progress)
    _show(result, job, options.json)
    failed = len(result.problems)
    scans = failed + len(result.done)
    raise_if_any(result.problems, f"{failed} of {scans} scans could not be segmented")


def _chosen_models(options: argparse.Namespace) -> "ModelsToUse":
    from autoseg.pipeline.selected import ModelsToUse, models_to_use

    if options.model:
        return ModelsToUse(tuple(options.model), None)
    return models_to_use(options.work, options.plan, options.configuration)


def _job(options: argparse.Namespace, chosen: "ModelsToUse") -> "PredictJob":
    from autoseg.pipeline.predict import Part, PredictJob

    return PredictJob(
        inputs=tuple(options.inputs),
        output=options.output,
        models=chosen.models,
        recipe=chosen.recipe,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        memory_gib=options.memory_gib,
        cache=cache_folder(),
        extras=_extras(options),
        ahead=not options.one_at_a_time,
        part=Part.parse(options.part) if options.part else None,
        overwrite=options.overwrite,
        series=_series(options.series),
    )


def _series(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Patterns by channel. Raises AutosegError where a text is none."""
    from autoseg.errors import AutosegError

    pairs = [text.partition("=") for text in texts]
    for text, (channel, _, pattern) in zip(texts, pairs, strict=True):
        if not (channel and pattern):
            raise AutosegError(f"--series {text}: give CHANNEL=PATTERN, such as T1='*mprage*'.")
    return tuple((channel, pattern) for channel, _, pattern in pairs)


def _extras(options: argparse.Namespace) -> "Extras":
    from autoseg.errors import AutosegError
    from autoseg.images.dicom.codes import read_codes
    from autoseg.pipeline.mask_writer import Extras
    from autoseg.pipeline.other_formats import OtherFormats
    from autoseg.postprocessing.instances import InstanceRule

    if options.min_volume is not None and not options.instances:
        raise AutosegError("--min-volume is for --instances. Give both, or neither.")
    rule = InstanceRule() if options.instances else None
    if options.min_volume is not None:  # in place of what the plan says
        rule = InstanceRule(min_volume_mm3=options.min_volume, smallest_mm=0.0)
    return Extras(
        uncertainty=options.uncertainty,
        probabilities=options.save_probabilities,
        instances=rule,
        pictures=options.pictures,
        other_formats=OtherFormats(
            formats=tuple(dict.fromkeys(options.format)),
            codes=None if options.codes is None else read_codes(options.codes),
        ),
    )


def _show(result: "PredictResult", job: "PredictJob", as_json: bool) -> None:
    """Notes and warnings on stderr, then what was done."""
    from autoseg.cli.quality_screen import quality_screen
    from autoseg.cli.screens import left_out_screen

    for note in result.notes:
        print(note, file=sys.stderr)
    for provenance in result.done:
        for warning in provenance.warnings:
            print(f"{provenance.case_id}: {warning}", file=sys.stderr)
    if as_json:
        entries = [p.model_dump(mode="json") for p in result.done]
        print(json.dumps([*entries, *(asdict(one) for one in result.left_out)], indent=2))
        return
    print(_in_a_line(result, job))
    if result.left_out:
        print(left_out_screen(result.left_out))
    if any(provenance.quality for provenance in result.done):
        print(quality_screen(result.done))


def _in_a_line(result: "PredictResult", job: "PredictJob") -> str:
    """How many masks were written and kept."""
    from autoseg.pipeline.mask_writer import MASKS_ALONE

    kept = result.kept
    also = f"; kept {kept} that were there (--overwrite replaces them)" if kept else ""
    if kept and job.extras != MASKS_ALONE:
        also += ", and wrote nothing else for those"
    # one file may hold several models
    used = len(result.done[0].models) if result.done else len(job.models)
    masks, models = _counted(len(result.done), "mask"), _counted(used, "model")
    return f"Wrote {masks} to {job.output} with {models}{also}."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
