"""Masks as RTSTRUCT: outlines on the slices of the source (PS3.3 A.19, C.8.8)."""

import struct
from collections import defaultdict
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
    rois, observations = [], []
    for segment in findings.segments:
        roi = Dataset()
        roi.ROINumber = segment.number
        roi.ReferencedFrameOfReferenceUID = made.FrameOfReferenceUID
        roi.ROIName = segment.name[:64]
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        roi.ROIGenerationDescription = MAKER
        roi.ROIDerivationAlgorithmIdentificationSequence = algorithm()
        rois.append(roi)
        observations.append(_observation(segment))
    made.StructureSetROISequence = rois
    made.RTROIObservationsSequence = observations
    _add_contours(made, findings)
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


def _add_contours(made: Any, findings: Findings) -> None:
    """Add all contours as the bytes that they are in the file.

    As data sets of pydicom they would take gigabytes. The transfer syntax is the one of implicit
    VRs, since in the others a contour of more than 64 KiB has no decimal strings (PS3.5 6.2.2).
    """
    from pydicom.charset import convert_encodings
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag
    from pydicom.uid import ImplicitVRLittleEndian

    of_value = _contours(findings)
    items = [_item(_outlined(one, of_value[one.value])) for one in findings.segments]
    value = b"".join(items)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.set_original_encoding(True, True, convert_encodings(made.SpecificCharacterSet))
    tag = Tag("ROIContourSequence")
    made[tag] = RawDataElement(tag, "SQ", len(value), value, 0, True, True)


def _contours(findings: Findings) -> dict[int, list[bytes]]:
    """The contours of each label value as items of a sequence."""
    affine = findings.stack.affine_ras_mm
    assert affine is not None
    to_lps = LPS_TO_RAS @ affine
    found: dict[int, list[bytes]] = defaultdict(list)
    for z, source in enumerate(findings.stack.slices):
        if source is not None:
            image = _element("ContourImageSequence", _item(_image(source)))
            for value, polygon in outlines(findings.labels[z]):
                found[value].append(_item(image + _contour(polygon, z, to_lps)))
    return found


def _outlined(segment: Segment, contours: list[bytes]) -> bytes:
    """The elements of a structure: its colour, its contours, its number."""
    colour = "\\".join(str(part) for part in colour_of(segment.number))
    parts = [_element("ROIDisplayColor", _text(colour))]
    if contours:
        parts.append(_element("ContourSequence", b"".join(contours)))
    parts.append(_element("ReferencedROINumber", _text(str(segment.number))))
    return b"".join(parts)


def _image(source: Slice) -> bytes:
    """The elements that name the instance and frame that a contour lies on."""
    one = source.instance
    parts = [
        _element("ReferencedSOPClassUID", _text(one.sop_class, b"\0")),
        _element("ReferencedSOPInstanceUID", _text(one.sop_uid, b"\0")),
    ]
    if len(one.frames) > 1:
        parts.append(_element("ReferencedFrameNumber", _text(str(source.frame.number))))
    return b"".join(parts)


def _contour(polygon: Polygon, z: int, to_lps: NDArray[np.float64]) -> bytes:
    """The elements that say where a contour lies."""
    indices = np.column_stack([polygon, np.full(len(polygon), z), np.ones(len(polygon))])
    points = (indices @ to_lps.T)[:, :3]
    form = "\\".join([f"%.{DIGITS}f"] * points.size)
    return (
        _element("ContourGeometricType", _text("CLOSED_PLANAR"))
        + _element("NumberOfContourPoints", _text(str(len(polygon))))
        + _element("ContourData", _text(form % tuple(points.reshape(-1).tolist())))
    )


def _text(text: str, pad: bytes = b" ") -> bytes:
    """A text as a value, of even length."""
    return text.encode() + pad * (len(text) % 2)


def _element(keyword: str, value: bytes) -> bytes:
    """A data element in little endian with an implicit VR (PS3.5 7.1.3)."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _item(value: bytes) -> bytes:
    """An item of a sequence (PS3.5 7.5)."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value
