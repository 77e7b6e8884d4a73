"""DICOM series made in code."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NAME, BIRTH_DATE, PATIENT_ID = "Planted^Persephone", "19010203", "PLANTED-4711"
Triple = tuple[float, float, float]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _along(axis: int, sign: float) -> Triple:
    x, y, z = (sign if one == axis else 0.0 for one in range(3))
    return x, y, z


# The directions of rows and of columns in all ways that follow the body's axes.
ORIENTATIONS: list[tuple[Triple, Triple]] = [
    (_along(first, one), _along(second, other))
    for first, second in permutations(range(3), 2)
    for one, other in product((1.0, -1.0), repeat=2)
]


@dataclass(frozen=True)
class Series:
    """What a made series is; `shear_mm` is how far each slice is shifted along columns."""

    voxels: NDArray[Any]  # [z, y, x]
    rows: Triple = (1.0, 0.0, 0.0)
    columns: Triple = (0.0, 1.0, 0.0)
    spacing_mm: Triple = (2.5, 0.8, 0.7)  # z, y, x
    origin_mm: Triple = (-31.5, 12.25, 100.0)
    shear_mm: float = 0.0
    uid: str = "1.2.3.4"
    study: str = "1.2.3"
    patient: str = PATIENT_ID
    changes: dict[str, Any] = field(default_factory=dict)

    def affine_ras_mm(self) -> NDArray[np.float64]:
        """By the standard's equation (PS3.3 C.7.6.2.1.1), and the step between slices."""
        affine = np.eye(4)
        affine[:3, 0] = np.array(self.rows) * self.spacing_mm[2]
        affine[:3, 1] = np.array(self.columns) * self.spacing_mm[1]
        affine[:3, 2] = np.cross(self.rows, self.columns) * self.spacing_mm[0]
        affine[:3, 2] += np.array(self.columns) * self.shear_mm
        affine[:3, 3] = self.origin_mm
        ras: NDArray[np.float64] = LPS_TO_RAS @ affine
        return ras

    def position_mm(self, z: int) -> list[float]:
        return [float(mm) for mm in (LPS_TO_RAS @ self.affine_ras_mm() @ [0, 0, z, 1])[:3]]


def scan(shape: tuple[int, int, int] = (6, 8, 10), seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def dataset(series: Series, sop_class: str = CT, sop_uid: str = "") -> FileDataset:
    """A data set of a series, without what differs from slice to slice."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = sop_uid or f"{series.uid}.9"
    made.PatientName, made.PatientID = NAME, series.patient
    made.PatientBirthDate, made.PatientSex = BIRTH_DATE, "O"
    made.StudyInstanceUID, made.SeriesInstanceUID = series.study, series.uid
    made.FrameOfReferenceUID = f"{series.study}.1"
    made.StudyDate, made.StudyTime, made.StudyID = "20200102", "030405", "1"
    made.ContentDate, made.ContentTime = "20200102", "030405"
    made.AccessionNumber = made.ReferringPhysicianName = ""
    made.PositionReferenceIndicator = ""
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 1, 1
    made.Manufacturer = "nobody"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = series.voxels.shape[1:3]
    bits = 8 * series.voxels.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(series.voxels.dtype.kind == "i")
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.RescaleType, made.KVP, made.AcquisitionNumber = "HU", 120, 1
    return made


def write_series(
    folder: Path, series: Series, leave_out: Sequence[int] = (), per_slice: Any = None
) -> list[Path]:
    """One file a slice, in an order that names do not tell; `per_slice` changes data sets."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for z in range(len(series.voxels)):
        if z in leave_out:
            continue
        made = dataset(series, sop_uid=f"{series.uid}.{z + 1}")
        made.InstanceNumber = z + 1
        made.PixelSpacing = [series.spacing_mm[1], series.spacing_mm[2]]
        made.SliceThickness = series.spacing_mm[0]
        made.ImageOrientationPatient = [*series.rows, *series.columns]
        made.ImagePositionPatient = series.position_mm(z)
        made.PixelData = np.ascontiguousarray(series.voxels[z]).tobytes()
        for name, value in series.changes.items():
            setattr(made, name, value)
        if per_slice is not None:
            per_slice(made, z)
        files.append(_save(made, folder / f"{(z * 7919) % 1000:03d}-{series.uid}"))
    return files


def write_enhanced(folder: Path, series: Series, times: int = 1) -> Path:
    """All slices as frames of one file, in an order that is not theirs in space."""
    folder.mkdir(parents=True, exist_ok=True)
    made = dataset(series, ENHANCED_CT)
    count = len(series.voxels) // times
    order = np.random.default_rng(1).permutation(len(series.voxels))
    shared, plane, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [*series.rows, *series.columns]
    measures.PixelSpacing = [series.spacing_mm[1], series.spacing_mm[2]]
    measures.SliceThickness = series.spacing_mm[0]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    shared.PixelValueTransformationSequence = [values]
    made.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        item, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = series.position_mm(int(index) % count)
        content.TemporalPositionIndex = int(index) // count + 1
        content.DimensionIndexValues = [int(index) + 1]
        item.PlanePositionSequence, item.FrameContentSequence = [position], [content]
        frames.append(item)
    made.PerFrameFunctionalGroupsSequence = frames
    made.NumberOfFrames = len(frames)
    made.PixelData = np.ascontiguousarray(series.voxels[order]).tobytes()
    return _save(made, folder / "enhanced")


def write_report(folder: Path, study: str) -> Path:
    """A dose report: no image."""
    made = dataset(Series(scan((1, 2, 2)), uid=f"{study}.77", study=study))
    for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"):
        delattr(made, name)
    made.SOPClassUID, made.Modality = "1.2.840.10008.5.1.4.1.1.88.67", "SR"
    return _save(made, folder / "dose")


def write_capture(folder: Path, study: str) -> Path:
    """A picture of a screen."""
    made = dataset(Series(scan((1, 4, 4)), uid=f"{study}.78", study=study), SECONDARY_CAPTURE)
    made.Modality = "OT"
    made.PixelData = b"\0" * 32
    return _save(made, folder / "capture")


def _save(made: FileDataset, path: Path) -> Path:
    made = copy.deepcopy(made)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path
