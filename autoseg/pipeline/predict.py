"""Predicting: from scans and models to masks on the scans' own grids."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoseg.dataset.dataset import Case
from autoseg.dataset.dicom_channels import patterns_of
from autoseg.dataset.inputs import list_scans
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.naming import stem
from autoseg.dataset.reading import read_channels
from autoseg.errors import AutosegError, raise_if_any
from autoseg.images.dicom.survey import LeftOut
from autoseg.images.formats import file_ending
from autoseg.images.volume import WRITTEN_ENDING, write_image, write_labels
from autoseg.parallel import Progress, explain_failure, silent
from autoseg.pipeline.objects import find_objects
from autoseg.pipeline.other_formats import OtherFormats, OtherWriter, not_dicom
from autoseg.postprocessing.instances import InstanceRule
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import Record, save_json
from autoseg.work_folder import INSTANCES, PROVENANCE, mask_path

if TYPE_CHECKING:
    from autoseg.inference.maps import RequestedMaps
    from autoseg.inference.predictor import Predictor, ReadyScan, Segmentation
    from autoseg.inference.provenance import Provenance
    from autoseg.pipeline.pictures import PictureWriter

UNCERTAINTY, PROBABILITIES = "uncertainty", "probabilities"
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


class Extras(Record):
    """What to write besides masks, each in a folder of its own beside them."""

    uncertainty: bool = False
    probabilities: bool = False
    instances: InstanceRule | None = None
    pictures: bool = False
    other_formats: OtherFormats = OtherFormats()


MASKS_ALONE = Extras()


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
    extras = extras_of_things(
        job.extras, card.labels, card.configuration.inference.smallest_object_mm
    )
    writer = MaskWriter(
        output,
        extras,
        _pictures(output, card.labels) if extras.pictures else None,
        OtherWriter(output, extras.other_formats, card.labels),
        card.labels,
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


def extras_of_things(extras: Extras, labels: LabelScheme, smallest_mm: float) -> Extras:
    """Objects are written of all models of things, and for COCO; they are told apart by the border
    that the network learned, where it learned one. Without a smallest volume it is the plan's."""
    wanted = labels.things or "coco" in extras.other_formats.formats
    if extras.instances is None and not wanted:
        return extras
    rule = extras.instances or InstanceRule()
    if not rule.min_volume_mm3:
        rule = rule.model_copy(update={"smallest_mm": smallest_mm})
    if labels.instances:
        rule = rule.model_copy(update={"border": labels.values[-1]})
    return extras.model_copy(update={"instances": rule})


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


@dataclass(frozen=True, slots=True)
class MaskWriter:
    """Writes what a scan's segmentation holds to a folder; the mask, which marks it done, last."""

    folder: Path
    extras: Extras = MASKS_ALONE
    pictures: "PictureWriter | None" = None
    others: OtherWriter | None = None
    labels: LabelScheme | None = None  # what values are called, and which are of things

    def requested(self, case_id: str) -> "RequestedMaps":
        from autoseg.inference.maps import RequestedMaps

        needed = self.extras.probabilities or self.extras.other_formats.need_probabilities
        return RequestedMaps(
            uncertainty=self.extras.uncertainty,
            objects=self.extras.instances is not None,
            probability_file=self._probability_file(case_id) if needed else None,
        )

    def _probability_file(self, case_id: str) -> Path:
        return self.folder / PROBABILITIES / f"{case_id}.npz"

    def write(self, case: Case, segmentation: "Segmentation") -> None:
        case_id = case.case_id
        maps = {"entropy": segmentation.entropy, "disagreement": segmentation.disagreement}
        for name, values in maps.items():
            if values is not None:
                write_image(self.folder / UNCERTAINTY / f"{case_id}_{name}.nii.gz", values)
        if self.extras.instances is not None:
            self._write_instances(case, segmentation, self.extras.instances)
        if self.pictures is not None:
            self.pictures.write(case, segmentation.labels)
        if self.others is not None:
            probabilities = self._probability_file(case_id)
            self.others.write(case, segmentation, probabilities)
            if not self.extras.probabilities and self.others.wanted.need_probabilities:
                probabilities.unlink()
        write_labels(mask_path(self.folder, case_id), segmentation.labels)
        _append(self.folder / PROVENANCE, segmentation.provenance)

    def _write_instances(
        self, case: Case, segmentation: "Segmentation", rule: InstanceRule
    ) -> None:
        numbers, found = find_objects(segmentation, rule, self.labels)
        folder, case_id = self.folder / INSTANCES, case.case_id
        if self.others is not None:
            self.others.write_objects(case, numbers, found)
        write_labels(mask_path(folder, case_id), replace(segmentation.labels, array=numbers))
        save_json([one.model_dump(mode="json") for one in found], folder / f"{case_id}.json")


def predict_cases(
    predictor: "Predictor",
    cases: Sequence[Case],
    writer: MaskWriter,
    progress: Progress = silent,
    ahead: bool = True,
) -> tuple[list["Provenance"], list[str]]:
    """Segment cases one by one; what was done, and what went wrong with the others.

    While networks run, the next scan is read and the last mask written, unless `ahead` is false
    or the predictor has a limit of memory: the next scan's size is not known.
    """
    ahead = ahead and predictor.memory_gib is None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as thread:
        pen = _Pen(writer, thread)
        count = 0
        progress(count, len(cases), "predicting scans")
        for case, ready in ready_scans(predictor, cases, reader if ahead else None):
            try:
                if isinstance(ready, Exception):
                    raise ready
                pen.write(case, predictor.segment(ready, writer.requested(case.case_id)))
            except Exception as error:
                pen.problems.append(explain_failure(case.case_id, error))
            if not ahead:
                pen.finish()
            del ready  # a large scan is not kept while the next is read
            count += 1
            progress(count, len(cases), "predicting scans")
        pen.finish()
    return pen.done, pen.problems


@dataclass(slots=True)
class _Pen:
    """Writes a mask in a thread while the next scan is worked on; what came of those before it."""

    writer: MaskWriter
    thread: ThreadPoolExecutor
    done: list["Provenance"] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    writing: "tuple[str, Future[None], Provenance] | None" = None

    def write(self, case: Case, segmentation: "Segmentation") -> None:
        self.finish()  # one is kept at most
        future = self.thread.submit(self.writer.write, case, segmentation)
        self.writing = case.case_id, future, segmentation.provenance

    def finish(self) -> None:
        """Wait for the mask that is being written, if one is."""
        if self.writing is None:
            return
        case_id, future, provenance = self.writing
        self.writing = None
        try:
            future.result()
            self.done.append(provenance)
        except Exception as error:
            self.problems.append(explain_failure(case_id, error))


def ready_scans(
    predictor: "Predictor", cases: Sequence[Case], reader: ThreadPoolExecutor | None
) -> Iterator[tuple[Case, "ReadyScan | Exception"]]:
    """Every case, read and put on the models' grids; the next one while the last is worked on."""

    def read(case: Case) -> "ReadyScan":
        return predictor.prepare(read_channels(case), case.case_id)

    coming: Future[ReadyScan] | None = None
    for index, case in enumerate(cases):
        outcome: ReadyScan | Exception
        try:
            outcome = read(case) if coming is None else coming.result()
        except Exception as error:
            outcome = error
        coming = None
        if reader is not None and index + 1 < len(cases):
            coming = reader.submit(read, cases[index + 1])
        yield case, outcome
        del outcome


def _append(path: Path, provenance: "Provenance") -> None:
    """Add a line, at once and whole, since other processes may be adding theirs."""
    with path.open("a", encoding="utf-8") as file:
        file.write(provenance.model_dump_json() + "\n")
