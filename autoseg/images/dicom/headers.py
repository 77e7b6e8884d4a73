"""What DICOM files state of their frames, without their voxels (PS3.3 C.7.6.2, C.7.6.16)."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.errors import AutosegError
from autoseg.images.dicom.opening import is_dicom, open_dataset
from autoseg.images.dicom.vectors import VECTORS, frame_places, is_reconstructed
from autoseg.images.raw import FrameSource

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
FOLDERS_KEPT = 64  # whose headers stay in memory
NO_ENCODING = "does not state how it is encoded (TransferSyntaxUID): export it again"
NO_OBJECT = "cannot be read as DICOM: it is damaged or cut short, and does not state what it holds"
IN_PIECES = b"\xff" * 4  # the length of compressed voxels (PS3.5, A.4)
# What sets volumes of one series apart, in the order in which it is tried.
TOLD_APART_BY = (
    *("StackID", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers"),
    *("EffectiveEchoTime", "EchoTime", "DiffusionBValue", "DiffusionGradientOrientation"),
    "TriggerTime",
    *VECTORS,
    *("NominalCardiacTriggerDelayTime", "ImageType", "FrameType", "ComplexImageComponent"),
    *("AcquisitionNumber", "FrameReferenceDateTime", "FrameAcquisitionDateTime"),
    *("AcquisitionTime", "ContentTime"),
)
PHILIPS_SLOPE, PHILIPS_INTERCEPT = (0x2005, 0x100E), (0x2005, 0x100D)


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice as its file states it; `number` counts from 1 in its instance.

    `orientation` holds the directions of rows and of columns, `position_mm` the centre of the first
    voxel, both LPS; None where the file states none. A measured value is slope * stored +
    intercept.
    """

    number: int
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    slope: float
    intercept: float
    philips_slope: float | None
    told_by: dict[str, str]


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file: whose it is, what it holds, and where its voxels begin.

    Of the patient only what is needed to tell one from another is kept. `description` is that of
    the series: to be matched, and to be shown to nobody but the user who asks for it.
    """

    path: Path
    sop_class: str
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_key: str
    reference_uid: str
    modality: str
    series_number: str
    description: str
    image_type: tuple[str, ...]
    has_pixels: bool
    shape: tuple[int, int]  # rows, columns
    samples: int
    bits: tuple[int, int]  # allocated, stored
    is_signed: bool
    is_float: bool  # Float or Double Float Pixel Data, as parametric maps have
    photometric: str
    transfer_syntax: str
    pixel_offset: int | None  # of voxels that are not compressed
    has_lut: bool
    referenced: tuple[str, ...]  # series that a SEG or RTSTRUCT is about
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A frame of an instance."""

    instance: Instance
    frame: Frame

    @property
    def source(self) -> FrameSource:
        one = self.instance
        return FrameSource(one.sop_class, one.sop_uid, self.frame.number, len(one.frames) > 1)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that says it is DICOM, and cannot be read."""

    path: Path
    why: str


def instances_in(folder: Path) -> tuple[Instance | Unreadable, ...]:
    """All DICOM files of a folder, itself and no deeper, in the order of their names."""
    stat = folder.stat()
    return _instances_in(folder, stat.st_mtime_ns)


@lru_cache(FOLDERS_KEPT)
def _instances_in(folder: Path, changed_ns: int) -> tuple[Instance | Unreadable, ...]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_dicom(p))
    return tuple(read_header(path) for path in files)


def read_header(path: Path) -> Instance | Unreadable:
    """What one file states."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what is odd and counts is told here
            header = open_dataset(file, stop_before_pixels=True)
            if "SOPClassUID" not in header and "MediaStorageSOPClassUID" not in header.file_meta:
                return Unreadable(path, NO_OBJECT)
            if "TransferSyntaxUID" not in header.file_meta:
                return Unreadable(path, NO_ENCODING)
            return _instance(path, header, _pixel_offset(file, header))
    except AutosegError as error:
        return Unreadable(path, str(error))
    except Exception as error:  # of a damaged file pydicom raises anything
        return Unreadable(path, f"cannot be read as DICOM: it is damaged ({type(error).__name__})")


def _pixel_offset(file: Any, header: Any) -> tuple[bool, int | None]:
    """Whether voxels follow, and where they begin if they are stored as they are."""
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_deflated:
        return "Rows" in header, None
    start = file.read(12)
    little = syntax.is_little_endian
    order = "little" if little else "big"
    group, element = (int.from_bytes(start[i : i + 2], order) for i in (0, 2))  # type: ignore[arg-type]
    if group != 0x7FE0 or element not in (0x0010, 0x0008, 0x0009):
        return False, None
    length = 8 if syntax.is_implicit_VR else 12
    if not syntax.is_compressed and start[length - 4 : length] == IN_PIECES:
        raise AutosegError(NO_ENCODING)  # its meta information was lost, or is wrong
    if syntax.is_compressed or not little or element != 0x0010:
        return True, None
    return True, file.tell() - len(start) + length


def _instance(path: Path, header: Any, pixels: tuple[bool, int | None]) -> Instance:
    def text(name: str) -> str:
        return str(header.get(name) or "").strip()

    return Instance(
        path=path,
        sop_class=text("SOPClassUID") or str(header.file_meta.MediaStorageSOPClassUID),
        sop_uid=text("SOPInstanceUID") or str(header.file_meta.MediaStorageSOPInstanceUID),
        series_uid=text("SeriesInstanceUID"),
        study_uid=text("StudyInstanceUID"),
        patient_key=f"{text('PatientID')}|{text('IssuerOfPatientID')}",
        reference_uid=text("FrameOfReferenceUID"),
        modality=text("Modality"),
        series_number=text("SeriesNumber"),
        description=text("SeriesDescription"),
        image_type=tuple(str(part) for part in _several(header.get("ImageType"))),
        has_pixels=pixels[0] and "Rows" in header,
        shape=(int(header.get("Rows") or 0), int(header.get("Columns") or 0)),
        samples=int(header.get("SamplesPerPixel") or 1),
        bits=(int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)),
        is_signed=bool(header.get("PixelRepresentation")),
        # Only integers have these (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25).
        is_float=pixels[0] and "BitsAllocated" in header and "BitsStored" not in header,
        photometric=text("PhotometricInterpretation"),
        transfer_syntax=str(header.file_meta.TransferSyntaxUID),
        pixel_offset=pixels[1],
        has_lut="ModalityLUTSequence" in header,
        referenced=tuple(dict.fromkeys(_referenced(header))),
        frames=tuple(_frames(header)) if pixels[0] and "Rows" in header else (),
    )


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | bytes | int | float) else list(value)


def _referenced(header: Any) -> Iterator[str]:
    """Series that a SEG or RTSTRUCT is about."""
    for series in header.get("ReferencedSeriesSequence") or ():
        yield str(series.SeriesInstanceUID)
    for place in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in place.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.SeriesInstanceUID)


def _frames(header: Any) -> Iterator[Frame]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if is_reconstructed(header):
        for number, place in enumerate(frame_places(header), 1):
            yield _frame(number, [place, header])
        return
    if not per_frame:
        for number in range(1, int(header.get("NumberOfFrames") or 1) + 1):
            yield _frame(number, [header])
        return
    shared = _groups((header.get("SharedFunctionalGroupsSequence") or [None])[0])
    for number, own in enumerate(per_frame, 1):
        yield _frame(number, [*_groups(own), *shared, header])


def _groups(item: Any) -> list[Any]:
    """The data sets of a frame's functional groups, and the item itself for private ones."""
    if item is None:
        return []
    found = [item]
    for element in item:
        if element.VR == "SQ" and element.value:
            found.append(element.value[0])
            if element.keyword == "CTImageFrameTypeSequence":
                continue
            found += [e.value[0] for e in element.value[0] if e.VR == "SQ" and e.value]
    return found


def _frame(number: int, places: list[Any]) -> Frame:
    """A frame from data sets, of which the first that states something counts."""

    def first(name: str | tuple[int, int]) -> Any:
        for place in places:
            if name in place:
                value = place[name].value
                if value is not None and value != "":
                    return value
        return None

    def numbers(name: str, count: int) -> tuple[float, ...] | None:
        values = tuple(float(v) for v in _several(first(name)))
        return values if len(values) == count and np.isfinite(values).all() else None

    def number_or(name: str | tuple[int, int], default: float | None) -> float | None:
        value = first(name)
        if isinstance(value, bytes):  # a private number of unknown kind
            value = np.frombuffer(value, "<f4")[0] if len(value) == 4 else None
        values = _several(value)
        return float(values[0]) if values else default

    spacing = numbers("PixelSpacing", 2) or numbers("ImagerPixelSpacing", 2)
    told = {name: str(value) for name in TOLD_APART_BY if (value := first(name)) is not None}
    return Frame(
        number=number,
        position_mm=numbers("ImagePositionPatient", 3),
        orientation=numbers("ImageOrientationPatient", 6),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        slope=number_or("RescaleSlope", 1.0) or 0.0,
        intercept=number_or("RescaleIntercept", 0.0) or 0.0,
        philips_slope=number_or(PHILIPS_SLOPE, None),
        told_by=told,
    )


def refuse_unreadable(found: Instance | Unreadable) -> Instance:
    """The instance. Raises AutosegError where its file cannot be read."""
    if isinstance(found, Unreadable):
        raise AutosegError(f"{found.path}: {found.why}. Export it again from its source.")
    return found
