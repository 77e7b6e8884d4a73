"""Masks in other formats beside NIfTI: DICOM SEG, RTSTRUCT, BIDS derivatives, COCO's objects and
panoptic maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.bids_derivatives import write_derivative
from autoseg.dataset.coco_results import CocoObject, write_coco
from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.panoptic_results import Thing, write_panoptic
from autoseg.images.dicom.codes import CodeTable, codes_of
from autoseg.images.dicom.derived import Findings, Segment, segments_of
from autoseg.images.dicom.series import recognise, stack_of
from autoseg.images.dicom.write_contours import write_rtstruct
from autoseg.images.dicom.write_seg import SegKind, write_seg
from autoseg.pipeline.objects import FoundObject
from autoseg.records import Record
from autoseg.work_folder import mask_path

if TYPE_CHECKING:
    from autoseg.inference.predictor import Segmentation

OtherFormat = Literal[
    "dicom-seg", "dicom-labelmap", "dicom-fractional", "rtstruct", "bids", "coco", "panoptic"
]
OF_OBJECTS = {"coco", "panoptic"}  # which `write_objects` is given
SEG_KINDS: dict[str, SegKind] = {
    "dicom-seg": "binary",
    "dicom-labelmap": "labelmap",
}


class OtherFormats(Record):
    """Which formats to write beside NIfTI, each into a folder of its name, and own codes."""

    formats: tuple[OtherFormat, ...] = ()
    codes: CodeTable | None = None

    @property
    def need_probabilities(self) -> bool:
        return "dicom-fractional" in self.formats


def not_dicom(cases: Sequence[Case], wanted: OtherFormats) -> dict[str, str]:
    """Cases that the formats cannot be written of, before any network runs."""
    if not set(wanted.formats) - {"bids", *OF_OBJECTS}:
        return {}
    refusal = (
        "its scan is not DICOM, to which alone DICOM masks can refer. Leave --format out, or give "
        "the DICOM series."
    )
    others = [case.case_id for case in cases if not recognise(case.files()[0])]
    return {case_id: f"{case_id}: {refusal}" for case_id in others}


@dataclass(frozen=True, slots=True)
class OtherWriter:
    """Writes a scan's mask in other formats to folders beside it."""

    folder: Path
    wanted: OtherFormats
    labels: LabelScheme

    def write(self, case: Case, found: "Segmentation", probabilities: Path | None) -> None:
        """DICOM is written of DICOM alone, as `not_dicom` tells."""
        for name in self.wanted.formats:
            if name in OF_OBJECTS:
                continue
            if name == "bids":
                write_derivative(self.folder / name, case, found.labels, self.labels)
                continue
            findings = self._findings(case, found)
            path = self.folder / name / f"{case.case_id}.dcm"
            if name == "rtstruct":
                write_rtstruct(path, findings)
                continue
            if name == "dicom-fractional":
                assert probabilities is not None
                _write_fractions(path, findings, probabilities)
                continue
            write_seg(path, findings, SEG_KINDS[name])

    def write_objects(
        self,
        case: Case,
        found: "Segmentation",
        numbers: NDArray[Any],
        objects: Sequence[FoundObject],
    ) -> None:
        """The numbered objects of a mask, where they are wanted as COCO has them."""
        if "coco" in self.wanted.formats:
            told = [CocoObject(one.number, one.value, one.box, one.score) for one in objects]
            path = self.folder / "coco" / f"{case.case_id}.json"
            write_coco(path, case.files()[0].name, numbers, told, self.labels)
        if "panoptic" in self.wanted.formats:
            things = [Thing(one.number, one.value, one.score) for one in objects]
            path = mask_path(self.folder / "panoptic", case.case_id)
            write_panoptic(path, found.labels, numbers, things, self.labels)

    def _findings(self, case: Case, found: "Segmentation") -> Findings:
        from autoseg.checkpoint import content_hash

        labels: NDArray[Any] = np.ascontiguousarray(found.labels.array)
        known = found.provenance
        made_of = (known.scan, *known.models, content_hash(labels.data))
        return Findings(
            stack_of(case.files()[0]), labels, segments(self.labels, self.wanted.codes), made_of
        )


def segments(labels: LabelScheme, codes: CodeTable | None = None) -> tuple[Segment, ...]:
    """The segments of a label scheme: all its classes but the background, or its regions; codes of
    a table come before those of the scheme."""
    if labels.regions:
        values, names = labels.region_order, tuple(region.name for region in labels.regions)
    else:
        values, names = labels.values[1:], labels.names[1:]
    own = CodeTable(structure=(*(codes.structure if codes else ()), *labels.codes))
    return segments_of(values, names, [codes_of(name, own) for name in names])


def _write_fractions(path: Path, findings: Findings, probabilities: Path) -> None:
    """Write what networks gave each segment, one at a time; the background's share is left out."""
    from autoseg.inference.probabilities import stored_outputs

    with stored_outputs(probabilities) as (count, outputs):
        fractions = islice(outputs, count - len(findings.segments), None)
        write_seg(path, replace(findings, fractions=fractions), "fractional")
