"""What every DICOM object that is made from a series has in common."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.dicom.codes import Code, SegmentCodes
from autoseg.images.dicom.headers import Instance
from autoseg.images.dicom.opening import open_dataset, telling_nothing
from autoseg.images.dicom.stacks import Stack
from autoseg.records import replacing
from autoseg.version import __version__

MAKER = "autoseg"
SERIES_NUMBERS = {"SEG": 9100, "RTSTRUCT": 9200}
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
COPIED = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientSize", "PatientWeight"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)
MAY_BE_EMPTY = (  # of type 2: there, and empty where the source does not say
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "PositionReferenceIndicator",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A class as it is written: its number from 1, its value in the mask, its name and codes."""

    number: int
    value: int
    name: str
    codes: SegmentCodes


@dataclass(frozen=True, slots=True)
class Findings:
    """A mask [z, y, x] of a volume, and what made it; `made_of` are hashes of scan and models.

    Of fractional objects the mask is not looked at, but `fractions` [z, y, x], 0 to 1, of each
    segment in turn.
    """

    stack: Stack
    labels: NDArray[Any]
    segments: tuple[Segment, ...]
    made_of: tuple[str, ...]
    fractions: Iterable[NDArray[Any]] | None = None


def made_uid(*parts: str) -> str:
    """A UID below 2.25 that follows from texts alone, so that a rerun makes the same object."""
    digest = hashlib.blake2b("|".join((MAKER, *parts)).encode(), digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"  # PS3.5 B.2


def new_object(findings: Findings, sop_class: str, kind: str, modality: str) -> Any:
    """A data set with patient, study, place, series and maker; UIDs and dates follow from input."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    _refuse_unplaced(findings.stack)
    source = open_dataset(findings.stack.first.instance.path, stop_before_pixels=True)
    series = findings.stack.first.instance.series_uid
    parts = (kind, __version__, series, *findings.made_of)
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = UID(sop_class)
    made.SOPInstanceUID = made_uid("instance", *parts)
    with telling_nothing():
        _copy(source, made)
    # Those that every object must have, though a source may have lost them.
    if "StudyInstanceUID" not in made:
        made.StudyInstanceUID = made_uid("study", series)
    if "FrameOfReferenceUID" not in made:
        made.FrameOfReferenceUID = made_uid("frame of reference", series)
    made.Modality = modality
    made.SeriesInstanceUID = made_uid("series", *parts)
    made.SeriesNumber = SERIES_NUMBERS[modality]
    made.SeriesDescription = f"{MAKER} {kind}"
    made.Manufacturer = MAKER
    made.ManufacturerModelName = MAKER
    made.DeviceSerialNumber = made_uid("models", *findings.made_of[1:]).rsplit(".", 1)[1][:16]
    made.SoftwareVersions = __version__
    made.InstanceNumber = 1
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = UID(made_uid("implementation"))
    made.file_meta.ImplementationVersionName = MAKER.upper()
    return made


def _copy(source: Any, made: Any) -> None:
    """Take patient, study and place of the source, as they are, valid or not."""
    for name in COPIED:
        if name in source and (source[name].value or name in MAY_BE_EMPTY):
            setattr(made, name, _plain(source[name].value))
        elif name in MAY_BE_EMPTY:
            setattr(made, name, "")


def _refuse_unplaced(stack: Stack) -> None:
    if stack.first.frame.position_mm is None:
        raise AutosegError(
            "its DICOM states no position in the patient, so nothing can be placed on it. Take the "
            "mask in NIfTI."
        )


def _plain(value: Any) -> Any:
    return str(value) if type(value).__name__ == "PersonName" else value


def date_and_time(stack: Stack) -> tuple[str, str]:
    """When the source was made: what is made of it says the same, so that a rerun is equal."""
    tags = [f"{kind}{what}" for kind in ("Content", "Series", "Study") for what in ("Date", "Time")]
    path = stack.first.instance.path
    source = open_dataset(path, stop_before_pixels=True, specific_tags=tags)
    date = next((str(source.get(tag)) for tag in tags[::2] if source.get(tag)), "19000101")
    time = next((str(source.get(tag)) for tag in tags[1::2] if source.get(tag)), "000000")
    return date, time


def coded(code: Code) -> Any:
    """A sequence of one coded concept."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return [item]


def algorithm() -> Any:
    """Which algorithm it was, as a sequence of one item (PS3.3 10.16)."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.AlgorithmFamilyCodeSequence = coded(ARTIFICIAL_INTELLIGENCE)
    item.AlgorithmName = MAKER
    item.AlgorithmVersion = __version__
    return [item]


def reference(instance: Instance) -> Any:
    """An item that names an instance."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class
    item.ReferencedSOPInstanceUID = instance.sop_uid
    return item


def instances_of(stack: Stack) -> list[Instance]:
    """The instances of a volume, each once, in the order of its slices."""
    return list({one.instance.sop_uid: one.instance for one in stack.present}.values())


def save(made: Any, path: Path) -> None:
    """Write a DICOM file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, telling_nothing():
        made.save_as(temporary, enforce_file_format=True)


def decimal(value: float) -> str:
    """A number as a decimal string of 16 characters at most."""
    for digits in range(12, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.1g}"


def position_of(stack: Stack, z: int) -> list[str]:
    """The position of a slice as its own file states it, which a mask lies on to the digit."""
    one = stack.slices[z]
    assert one is not None and one.frame.position_mm is not None
    return [decimal(mm) for mm in one.frame.position_mm]


def slice_distance_mm(stack: Stack) -> float:
    """The distance between slices along their normal."""
    from autoseg.images.dicom.stacks import LPS_TO_RAS, normal_of

    assert stack.affine_ras_mm is not None
    step = (LPS_TO_RAS @ stack.affine_ras_mm)[:3, 2]
    return float(abs(np.dot(normal_of(stack.first.frame), step)))


def segments_of(
    values: Sequence[int], names: Sequence[str], codes: Sequence[SegmentCodes]
) -> tuple[Segment, ...]:
    """Segments in the order of classes, the background left out by the caller."""
    return tuple(
        Segment(number, value, name, code)
        for number, (value, name, code) in enumerate(zip(values, names, codes, strict=True), 1)
    )
