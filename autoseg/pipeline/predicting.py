"""Predicting: from scans and models to masks on the scans' own grids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.cases import read_channels
from autoseg.dataset import Case
from autoseg.errors import AutosegError, raise_if_any
from autoseg.scans import list_scans
from autoseg.volume import write_labels
from autoseg.workers import Progress, explain_failure, silent

if TYPE_CHECKING:
    from autoseg.device import Precision
    from autoseg.inference.predictor import Predictor, Provenance

PROVENANCE = "provenance.jsonl"


@dataclass(frozen=True, slots=True)
class Part:
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
        return cls(int(index), int(count))


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What to segment, where masks go, and with which models; where, None is what is fastest."""

    inputs: Sequence[Path]
    output: Path
    models: Sequence[Path]
    device: str | None = None
    precision: "Precision | None" = None
    overwrite: bool = False
    part: Part | None = None


def predict_files(
    request: PredictRequest, progress: Progress = silent
) -> tuple[list["Provenance"], int]:
    """Segment files, or all images of folders; provenance of each mask, and how many were kept.

    Masks that are already there are kept unless they are to be overwritten. A case that fails does
    not stop the others; AutosegError then names every one at the end.
    """
    from autoseg.inference.predictor import Predictor

    output = request.output
    predictor = Predictor.load(request.models, request.device, request.precision)
    cases = list_scans(request.inputs, len(predictor.card.channel_names))
    raise_if_any(
        [
            f"{case.case_id}: its mask would replace the scan {path}. Choose another output folder."
            for case in cases
            for path in case.files()
            if path.resolve() == (output / f"{case.case_id}.nii.gz").resolve()
        ],
        "Masks would replace scans",
    )
    if request.part is not None:
        cases = cases[request.part.index - 1 :: request.part.count]
    missing = [
        c for c in cases if request.overwrite or not (output / f"{c.case_id}.nii.gz").exists()
    ]
    done, problems = predict_cases(predictor, missing, output, progress)
    raise_if_any(problems, f"{len(problems)} of {len(missing)} scans could not be segmented")
    return done, len(cases) - len(missing)


def predict_cases(
    predictor: "Predictor", cases: Sequence[Case], output: Path, progress: Progress
) -> tuple[list["Provenance"], list[str]]:
    """Segment cases one by one; what was done, and what went wrong with the others."""
    done, problems = [], []
    for index, case in enumerate(cases):
        progress(index, len(cases), "predicting scans")
        try:
            segmentation = predictor(read_channels(case), case.case_id)
            write_labels(output / f"{case.case_id}.nii.gz", segmentation.labels)
            _append(output / PROVENANCE, segmentation.provenance)
        except Exception as error:
            problems.append(explain_failure(case.case_id, error))
            continue
        done.append(segmentation.provenance)
    progress(len(cases), len(cases), "predicting scans")
    return done, problems


def _append(path: Path, provenance: "Provenance") -> None:
    """Add a line, at once and whole, since other processes may be adding theirs."""
    with path.open("a", encoding="utf-8") as file:
        file.write(provenance.model_dump_json() + "\n")
