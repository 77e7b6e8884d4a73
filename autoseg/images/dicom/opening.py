"""pydicom, used without what it tells: that may be a person's name or day of birth."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PREAMBLE, MAGIC = 128, b"DICM"
# With what a data set may begin that has no preamble: its length, or what an image states first.
FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018)
FIRST_VRS = (b"UL", b"SH", b"CS", b"DA", b"UI", b"OB")
SHORTEST_FIRST, LONGEST_FIRST = 8, 1024  # bytes of such an element


@contextmanager
def telling_nothing() -> Iterator[None]:
    """Keep what pydicom says of values that are not valid from the log and the terminal."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: says so after a preamble of any content (PS3.10, 7.1), or begins as
    a data set without one, as old archives write them."""
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + len(MAGIC))
    except (OSError, ValueError):  # a folder, absent, or not ours to read
        return False
    return start[PREAMBLE:] == MAGIC or _begins_as_dataset(start)


def _begins_as_dataset(start: bytes) -> bool:
    """Whether bytes are those of an element that comes first (PS3.5, 7.1), in any encoding."""
    if len(start) < SHORTEST_FIRST:
        return False
    for group in (b"\x02\0", b"\x08\0", b"\0\x08"):
        if start[:2] == group:
            order: Any = "big" if group[0] == 0 else "little"
            element = int.from_bytes(start[2:4], order)
            is_short = int.from_bytes(start[4:8], order) <= LONGEST_FIRST  # if the VR is implicit
            return element in FIRST_ELEMENTS and (start[4:6] in FIRST_VRS or is_short)
    return False


def open_dataset(source: Any, **options: Any) -> Any:
    """What pydicom reads of a file, as `pydicom.dcmread` does.

    A data set that comes without file meta information is of the encoding that its first elements
    have: by default little endian with implicit VRs (PS3.5, 10.1).
    """
    import pydicom

    with telling_nothing():
        found = pydicom.dcmread(source, force=True, **options)
    if found.preamble is None and not len(found.file_meta):
        found.file_meta.TransferSyntaxUID = _stated_by(*found.original_encoding)
    return found


def _stated_by(has_implicit_vrs: bool, is_little: bool) -> Any:
    """The transfer syntax of a data set that is not compressed."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not is_little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if has_implicit_vrs else ExplicitVRLittleEndian
