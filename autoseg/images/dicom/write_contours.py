"""Masks as RTSTRUCT: outlines on the slices of the source (PS3.3 A.19, C.8.8)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.images.dicom.codes import colour_of
from autoseg.images.dicom.contours import Polygon, outlines
from autoseg.images.dicom.derived import (
    MAKER,
    Findings,
    Segment,
    algorithm,
    date_and_time,
    instances_of,
    new_object,
    reference,
    save,
)
from autoseg.images.dicom.headers import RTSTRUCT_CLASS, Slice
from autoseg.images.dicom.stacks import LPS_TO_RAS

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, as the module asks for
ABNORMAL = "49755003"
DIGITS = 5  # after the point, in mm: far below what a voxel's centre is away from an outline


def write_rtstruct(path: Path, findings: Findings) -> None:
    """Write one RTSTRUCT of all segments, atomically; the same input gives the same bytes.

    Outlines pass half-way between voxels, so that the same voxels come back. Raises AutosegError
    where the source states no position.
    """
    from pydicom.dataset import Dataset

    made = new_object(findings, RTSTRUCT_CLASS, "contours", "RTSTRUCT")
    date, time = date_and_time(findings.stack)
    made.StructureSetLabel = MAKER
    made.StructureSetDate, made.StructureSetTime = date, time
    made.OperatorsName = ""
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_place(findings, made)]
    rois, contours, observations = [], [], []
    for segment in findings.segments:
        roi = Dataset()
        roi.ROINumber = segment.number
        roi.ReferencedFrameOfReferenceUID = made.FrameOfReferenceUID
        roi.ROIName = segment.name[:64]
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        roi.ROIGenerationDescription = MAKER
        roi.ROIDerivationAlgorithmIdentificationSequence = algorithm()
        rois.append(roi)
        outlined = Dataset()
        outlined.ReferencedROINumber = segment.number
        outlined.ROIDisplayColor = list(colour_of(segment.number))
        items = list(_contours(findings, segment))
        if items:
            outlined.ContourSequence = items
        contours.append(outlined)
        observations.append(_observation(segment))
    made.StructureSetROISequence = rois
    made.ROIContourSequence = contours
    made.RTROIObservationsSequence = observations
    save(made, path)


def _place(findings: Findings, made: Any) -> Any:
    """The frame of reference, study, series and instances that contours lie on."""
    from pydicom.dataset import Dataset

    place, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = findings.stack.first.instance.series_uid
    series.ContourImageSequence = [reference(one) for one in instances_of(findings.stack)]
    study.ReferencedSOPClassUID = STUDY_CLASS
    study.ReferencedSOPInstanceUID = made.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    place.FrameOfReferenceUID = made.FrameOfReferenceUID
    place.RTReferencedStudySequence = [study]
    return place


def _observation(segment: Segment) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ObservationNumber = segment.number
    item.ReferencedROINumber = segment.number
    item.ROIObservationLabel = segment.name[:16]
    item.RTROIInterpretedType = "GTV" if segment.codes.category.value == ABNORMAL else "ORGAN"
    item.ROIInterpreter = ""
    return item


def _contours(findings: Findings, segment: Segment) -> Iterator[Any]:
    affine = findings.stack.affine_ras_mm
    assert affine is not None
    to_lps = LPS_TO_RAS @ affine
    for z, source in enumerate(findings.stack.slices):
        plane = findings.labels[z] == segment.value
        if source is None or not plane.any():
            continue
        for polygon in outlines(plane):
            yield _contour(polygon, z, to_lps, source)


def _contour(polygon: Polygon, z: int, to_lps: NDArray[np.float64], source: Slice) -> Any:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    indices = np.column_stack([polygon, np.full(len(polygon), z), np.ones(len(polygon))])
    points = (indices @ to_lps.T)[:, :3]
    text = "\\".join(f"{mm:.{DIGITS}f}" for mm in points.reshape(-1).tolist())
    value = text.encode() + b" " * (len(text) % 2)
    item, image = Dataset(), reference(source.instance)
    if len(source.instance.frames) > 1:
        image.ReferencedFrameNumber = source.frame.number
    item.ContourImageSequence = [image]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(polygon)
    tag = Tag("ContourData")  # as bytes: to parse millions of numbers again takes minutes
    item[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    return item
