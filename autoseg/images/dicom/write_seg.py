"""Masks as DICOM SEG: binary, label map, or fractional (PS3.3 A.51, A.90, C.8.20)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.images.dicom.codes import Code, cielab_of
from autoseg.images.dicom.derived import (
    MAKER,
    Findings,
    algorithm,
    coded,
    date_and_time,
    decimal,
    instances_of,
    made_uid,
    new_object,
    position_of,
    reference,
    save,
    slice_distance_mm,
)
from autoseg.images.dicom.headers import Slice
from autoseg.images.dicom.stacks import Stack

SegKind = Literal["binary", "labelmap", "fractional"]

SOP_CLASSES = {
    "binary": "1.2.840.10008.5.1.4.1.1.66.4",
    "fractional": "1.2.840.10008.5.1.4.1.1.66.4",
    "labelmap": "1.2.840.10008.5.1.4.1.1.66.7",
}
LARGEST_FRACTION = 255
SEGMENTATION = Code("113076", "DCM", "Segmentation")
SOURCE = Code("121322", "DCM", "Source image for image processing operation")
FRAMES_AT_ONCE = 8  # whose bits are whole bytes, whatever their size


@dataclass(frozen=True, slots=True)
class _Written:
    """A frame of the SEG: of which segment (0: of all), on which slice."""

    segment: int
    z: int


def write_seg(path: Path, findings: Findings, kind: SegKind = "binary") -> None:
    """Write one SEG of all segments, atomically; the same input gives the same bytes.

    Frames in which a segment has nothing are left out, and slices that no instance holds. Raises
    AutosegError where the source states no position.
    """
    made = new_object(findings, SOP_CLASSES[kind], f"segmentation {kind}", "SEG")
    if kind == "fractional":
        frames, pixels = _fractional(findings)
    else:
        frames = _frames(findings, kind)
        pixels = _pixels(findings, frames, kind)
    _describe(made, findings, kind)
    _index(made, kind)
    _place(made, findings.stack)
    made.PerFrameFunctionalGroupsSequence = list(_per_frame(findings.stack, frames))
    made.NumberOfFrames = len(frames)
    made.PixelData = pixels + b"\0" * (len(pixels) % 2)
    made["PixelData"].VR = "OW" if made.BitsAllocated == 16 else "OB"
    save(made, path)


def _frames(findings: Findings, kind: SegKind) -> list[_Written]:
    """What is written, segment by segment; at least one frame, as a SEG must have."""
    there = _there(findings.stack)
    found = {z: _values_in(findings.labels[z]) for z in there}
    if kind == "labelmap":
        frames = [_Written(0, z) for z in there if found[z] - {0}]
    else:
        frames = [
            _Written(segment.number, z)
            for segment in findings.segments
            for z in there
            if segment.value in found[z]
        ]
    return frames or [_Written(0 if kind == "labelmap" else 1, there[0])]


def _there(stack: Stack) -> list[int]:
    return [z for z, one in enumerate(stack.slices) if one is not None]


def _values_in(plane: NDArray[Any]) -> set[int]:
    counts = np.bincount(plane.reshape(-1))
    return set(np.flatnonzero(counts).tolist())


def _describe(made: Any, findings: Findings, kind: SegKind) -> None:
    date, time = date_and_time(findings.stack)
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.ContentDate, made.ContentTime = date, time
    made.ContentLabel = "SEGMENTATION"
    made.ContentDescription = f"{MAKER} segmentation"
    made.ContentCreatorName = f"{MAKER}^"
    made.SegmentationType = kind.upper()
    made.LossyImageCompression = "00"
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelRepresentation = 0
    made.Rows, made.Columns = findings.stack.first.instance.shape
    largest = max(segment.number for segment in findings.segments)
    bits = 1 if kind == "binary" else 16 if kind == "labelmap" and largest > 255 else 8
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    if kind == "fractional":
        made.SegmentationFractionalType = "PROBABILITY"
        made.MaximumFractionalValue = LARGEST_FRACTION
        made.SegmentsOverlap = "UNDEFINED"
    elif kind == "labelmap":
        made.PixelPaddingValue = 0
        made.SegmentsOverlap = "NO"
    else:
        made.SegmentsOverlap = "NO"
    made.SegmentSequence = [_segment(segment) for segment in findings.segments]
    made.ReferencedSeriesSequence = [_series(findings.stack)]


def _segment(segment: Any) -> Any:
    from pydicom.dataset import Dataset

    item, codes = Dataset(), segment.codes
    item.SegmentNumber = segment.number
    item.SegmentLabel = segment.name[:64]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = MAKER
    item.SegmentationAlgorithmIdentificationSequence = algorithm()
    item.SegmentedPropertyCategoryCodeSequence = coded(codes.category)
    item.SegmentedPropertyTypeCodeSequence = coded(codes.type)
    if codes.modifier is not None:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = coded(codes.modifier)
    item.RecommendedDisplayCIELabValue = cielab_of(segment.number)
    return item


def _series(stack: Stack) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.SeriesInstanceUID = stack.first.instance.series_uid
    item.ReferencedInstanceSequence = [reference(one) for one in instances_of(stack)]
    return item


def _index(made: Any, kind: SegKind) -> None:
    """By what frames are numbered: their segment, then their position."""
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    uid = made_uid("dimensions", made.SOPInstanceUID)
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    made.DimensionOrganizationSequence = [organization]
    pointers = [("ImagePositionPatient", "PlanePositionSequence", "Image Position Patient")]
    if kind != "labelmap":
        first = ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Segment Number")
        pointers.insert(0, first)
    items = []
    for pointer, group, label in pointers:
        item = Dataset()
        item.DimensionOrganizationUID = uid
        item.DimensionIndexPointer = Tag(pointer)
        item.FunctionalGroupPointer = Tag(group)
        item.DimensionDescriptionLabel = label
        items.append(item)
    made.DimensionIndexSequence = items


def _place(made: Any, stack: Stack) -> None:
    """What all frames share: direction, and size of voxels."""
    from pydicom.dataset import Dataset

    frame = stack.first.frame
    assert frame.orientation is not None
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [decimal(c) for c in frame.orientation]
    distance = decimal(slice_distance_mm(stack))
    measures.SliceThickness = distance
    measures.SpacingBetweenSlices = distance
    measures.PixelSpacing = [decimal(mm) for mm in frame.spacing_mm or (1.0, 1.0)]
    shared.PlaneOrientationSequence = [plane]
    shared.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence = [shared]


def _per_frame(stack: Stack, frames: list[_Written]) -> Iterator[Any]:
    """Where each frame lies, what it shows, and which frame of the source it was made from."""
    from pydicom.dataset import Dataset

    order = {z: rank for rank, z in enumerate(sorted({one.z for one in frames}), 1)}
    of_slice = {z: _slice_items(stack, z) for z in order}  # those of all segments there
    for written in frames:
        item, content = Dataset(), Dataset()
        index = [order[written.z]]
        if written.segment:
            index.insert(0, written.segment)
            named = Dataset()
            named.ReferencedSegmentNumber = written.segment
            item.SegmentIdentificationSequence = [named]
        content.DimensionIndexValues = index
        item.FrameContentSequence = [content]
        position, derivation = of_slice[written.z]
        item.PlanePositionSequence = [position]
        item.DerivationImageSequence = [derivation]
        yield item


def _slice_items(stack: Stack, z: int) -> tuple[Any, Any]:
    """Where a slice lies, and what it was made from."""
    from pydicom.dataset import Dataset

    position, source = Dataset(), stack.slices[z]
    assert source is not None
    position.ImagePositionPatient = position_of(stack, z)
    return position, _derivation(source)


def _derivation(source: Slice) -> Any:
    from pydicom.dataset import Dataset

    item, image = Dataset(), reference(source.instance)
    if len(source.instance.frames) > 1:
        image.ReferencedFrameNumber = source.frame.number
    image.PurposeOfReferenceCodeSequence = coded(SOURCE)
    image.SpatialLocationsPreserved = "YES"
    item.DerivationCodeSequence = coded(SEGMENTATION)
    item.SourceImageSequence = [image]
    return item


def _pixels(findings: Findings, frames: list[_Written], kind: SegKind) -> bytes:
    if kind == "binary":
        data = b"".join(_packed(findings, frames))
    else:
        table = np.zeros(max(s.value for s in findings.segments) + 1, np.uint16)
        table[[s.value for s in findings.segments]] = [s.number for s in findings.segments]
        width = np.uint16 if table.max() > 255 else np.uint8
        data = b"".join(table[findings.labels[one.z]].astype(width).tobytes() for one in frames)
    return data


def _fractional(findings: Findings) -> tuple[list[_Written], bytes]:
    """Frames and voxels of fractions, of which one segment's are held at a time."""
    assert findings.fractions is not None
    there = _there(findings.stack)
    frames: list[_Written] = []
    planes: list[bytes] = []
    for segment, fractions in zip(findings.segments, findings.fractions, strict=True):
        for z in there:
            plane = _eight_bits(fractions[z])
            if plane.any():
                frames.append(_Written(segment.number, z))
                planes.append(plane.tobytes())
    if not frames:
        return [_Written(1, there[0])], bytes(findings.labels[0].size)
    return frames, b"".join(planes)


def _eight_bits(plane: NDArray[Any]) -> NDArray[np.uint8]:
    scaled = np.rint(plane.astype(np.float32) * LARGEST_FRACTION)
    return np.clip(scaled, 0, LARGEST_FRACTION).astype(np.uint8)


def _packed(findings: Findings, frames: list[_Written]) -> Iterator[bytes]:
    """Bits of frames that follow each other without gaps, the lowest bit first."""
    value_of = {segment.number: segment.value for segment in findings.segments}
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        planes = [
            findings.labels[one.z] == value_of[one.segment]
            for one in frames[start : start + FRAMES_AT_ONCE]
        ]
        yield np.packbits(np.stack(planes), bitorder="little").tobytes()
