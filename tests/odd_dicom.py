"""DICOM of the table in docs/files.md."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.dicom_series import Series, scan, write_enhanced, write_report, write_series
from tests.odd_files import Row


def _series(leave_out: tuple[int, ...] = (), per_slice: Any = None, **what: Any) -> Any:
    def make(folder: Path) -> Path:
        return write_series(folder, Series(scan(), **what), leave_out, per_slice)[0]

    return make


def _moved(made: Any, z: int) -> None:
    made.ImagePositionPatient[2] += 1.0 if z > 3 else 0.0


def _twice(change: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        again = {"SeriesInstanceUID": "1.2.3.4"}
        write_series(folder, Series(scan() + change, uid="1.2.9", changes=again), range(1, 6))
        return write_series(folder, Series(scan()))[0]

    return make


def _cut(folder: Path) -> Path:
    path = write_series(folder, Series(scan()))[0]
    path.write_bytes(path.read_bytes()[:-20])
    return path


def _bare(folder: Path) -> Path:
    """Files of their data sets alone."""
    files = write_series(folder, Series(scan()))
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\0\x08\0CS") :])
    return files[0]


def _framed(made: Any, z: int) -> None:
    """Several frames, and no place."""
    made.NumberOfFrames, made.PixelData = 3, made.PixelData * 3
    del made.ImagePositionPatient


def rows_of_dicom() -> list[Row]:
    dark = {"PhotometricInterpretation": "MONOCHROME1"}
    table = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return [
        Row("DICOM", "a series, by any of its files", _series(), "read"),
        Row("DICOM", "enhanced: several frames in a file", _enhanced, "read"),
        Row("DICOM", "without a preamble", _bare, "read"),
        Row("DICOM", "a tilted gantry: kept", _series(shear_mm=0.9), "read"),
        Row("DICOM", "a missing slice: interpolated", _series((2,)), "warned"),
        Row("DICOM", "a slice twice: one is taken", _twice(0), "warned"),
        Row("DICOM", "different slices in one place", _twice(1), "refused"),
        Row("DICOM", "variable spacing", _series((), _moved), "refused"),
        Row("DICOM", "0 as white: numbers as stored", _series(changes=dark), "warned"),
        Row("DICOM", "frames that state no place: a cine", _series((), _framed), "refused"),
        Row("DICOM", "colours", _series(changes=table), "refused"),
        Row("DICOM", "a report, or what else holds no image", _report, "refused"),
        Row("DICOM", "cut short", _cut, "refused"),
    ]


def _enhanced(folder: Path) -> Path:
    return write_enhanced(folder, Series(scan()))


def _report(folder: Path) -> Path:
    return write_report(folder, "1.2.3")
