"""Predicting: from scans and models to masks on the scans' own grids."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoseg.dataset.dataset import Case
from autoseg.dataset.dicom_channels import patterns_of
from autoseg.dataset.inputs import list_scans
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.naming import stem
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.dicom.survey import LeftOut
from autoseg.images.formats import file_ending
from autoseg.images.volume import WRITTEN_ENDING
from autoseg.parallel import Progress, silent
from autoseg.pipeline.mask_writer import MASKS_ALONE, Extras, MaskWriter, extras_of_things
from autoseg.pipeline.other_formats import OtherWriter, not_dicom
from autoseg.pipeline.scan_by_scan import predict_cases
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import Record
from autoseg.work_folder import mask_path

if TYPE_CHECKING:
    from autoseg.inference.provenance import Provenance
    from autoseg.pipeline.pictures import PictureWriter

LONGEST_SUFFIX = f"_disagreement{WRITTEN_ENDING}"
LONGEST_NAME = 255  # where the system does not say


class Part(Record):
    """A share of the cases, for several processes: number `index`, from 1, of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """A part as it is typed, such as 1/4. Raises AutosegError when there is no such part."""
        index, slash, count = text.partition("/")
        if not (
            slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)
        ):
            raise AutosegError(f"--part {text}: expected a number and how many, such as 1/4.")
        return cls(index=int(index), count=int(count))


class PredictJob(Record):
    """What to segment, where masks go, and with which models; where, None is what is fastest.

    Paths and names alone, so that it can be sent to any process or machine.
    """

    inputs: tuple[Path, ...]
    output: Path
    models: tuple[Path, ...]
    recipe: Recipe | None = None  # how models are used, where that was selected
    device: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    engine: Literal["torch", "openvino", "onnxruntime", "tensorrt"] | None = None
    memory_gib: float | None = None
    cache: Path | None = None  # where compiled networks are kept
    overwrite: bool = False
    part: Part | None = None
    extras: Extras = MASKS_ALONE
    ahead: bool = True  # scans are read, and masks written, while networks run
    series: tuple[tuple[str, str], ...] = ()  # channels, and patterns of their DICOM series


@dataclass(frozen=True, slots=True)
class PredictResult:
    """Provenance of each mask, how many were kept, what went wrong with the other scans, and what
    was assumed of them. Of DICOM, also which series are no scans."""

    done: Sequence["Provenance"]
    kept: int
    problems: Sequence[str]
    notes: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()


def predict_files(job: PredictJob, progress: Progress = silent) -> PredictResult:
    """Segment files, or all images of folders.

    Masks that are already there are kept, with all that was written beside them, unless they are
    to be overwritten. A case that fails does not stop the others.
    """
    from autoseg.inference.predictor import Predictor

    predictor = Predictor.load(
        job.models,
        job.device,
        job.precision,
        job.engine,
        job.memory_gib,
        job.cache,
        job.recipe,
    )
    card = predictor.card
    names = card.channel_names
    patterns = patterns_of(dict(job.series), names) if job.series else ()
    scans = list_scans(job.inputs, len(names), card.held_out, patterns, names)
    output, cases = _output_folder(job.output, scans.cases)
    _check_keeps_scans(output, cases)
    _check_output(output, job.inputs)
    if job.part is not None:
        cases = cases[job.part.index - 1 :: job.part.count]
    refused = _names_too_long(cases, output, job.extras) | not_dicom(
        cases, job.extras.other_formats
    )
    cases = [case for case in cases if case.case_id not in refused]
    missing = [c for c in cases if job.overwrite or not mask_path(output, c.case_id).exists()]
    extras = extras_of_things(job.extras, card.labels, predictor.smallest_object_mm)
    writer = MaskWriter(
        output,
        extras,
        _pictures(output, card.labels) if extras.pictures else None,
        OtherWriter(output, extras.other_formats, card.labels),
        card.labels,
        predictor.sureness,
    )
    done, problems = predict_cases(predictor, missing, writer, progress, job.ahead)
    problems = [*scans.problems, *refused.values(), *problems]
    return PredictResult(done, len(cases) - len(missing), problems, scans.notes, scans.left_out)


def _check_keeps_scans(output: Path, cases: Sequence[Case]) -> None:
    raise_if_any(
        [
            f"{case.case_id}: its mask would replace the scan {path}. Choose another output folder."
            for case in cases
            for path in case.files()
            if path.resolve() == mask_path(output, case.case_id).resolve()
        ],
        "Masks would replace scans",
    )


def _pictures(output: Path, labels: LabelScheme) -> "PictureWriter":
    from autoseg.pipeline.pictures import PICTURES, PictureWriter, declared_classes

    return PictureWriter(output / PICTURES, declared_classes(labels))


def _output_folder(output: Path, cases: Sequence[Case]) -> tuple[Path, Sequence[Case]]:
    """Where masks go: a folder, or for a single scan the file that the mask shall be.

    Raises AutosegError for a name that looks like a file, but cannot be one.
    """
    if file_ending(output) is None or output.is_dir():
        return output, cases
    if len(cases) == 1 and output.name.endswith(WRITTEN_ENDING):
        return output.parent, [replace(cases[0], case_id=stem(output))]
    raise AutosegError(
        f"{output}: looks like a file. Give a folder for the masks of {len(cases)} "
        f"{'scan' if len(cases) == 1 else 'scans'}; masks are NIfTI ({WRITTEN_ENDING})."
    )


def _names_too_long(cases: Sequence[Case], output: Path, extras: Extras) -> dict[str, str]:
    """Cases whose files could not be written, before any network runs."""
    longest = os.pathconf(output, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST_NAME
    suffix = LONGEST_SUFFIX if extras.uncertainty else WRITTEN_ENDING
    lengths = {case.case_id: len(os.fsencode(case.case_id + suffix)) for case in cases}
    return {
        case_id: f"{case_id}: its name is too long for what is written to {output}: {length} of "
        f"{longest} bytes, endings included. Give the scan a shorter name."
        for case_id, length in lengths.items()
        if length > longest
    }


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Make the folder. Raises AutosegError where it cannot be written to, or holds the scans."""
    if output.resolve() in [path.resolve() for path in inputs]:
        raise AutosegError(
            f"{output}: the scans lie here, and the next run would take masks for scans. Choose "
            f"another output folder, such as {output / 'masks'}."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AutosegError(f"{output}: cannot be made ({error.strerror}).") from None
    if not os.access(output, os.W_OK):
        raise AutosegError(f"{output}: cannot be written to. Check its permissions.")
