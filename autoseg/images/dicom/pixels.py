"""Voxels of slices: read where they lie if they are not compressed, else decoded by pydicom."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.dicom.headers import Instance, Slice
from autoseg.images.dicom.opening import open_dataset

JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))  # PS3.5 8.2.1
LONGEST_REASON = 200


def read_slices(slices: Sequence[Slice], out: NDArray[Any]) -> None:
    """Fill [slice, row, column] with stored values.

    Raises AutosegError where a file is cut short, or no installed decoder reads it.
    """
    held: tuple[Path, Any] | None = None
    for index, one in enumerate(slices):
        instance = one.instance
        if instance.pixel_offset is not None and instance.bits[0] in (8, 16, 32):
            out[index] = _native(instance, one.frame.number)
            continue
        if len(instance.frames) == 1:
            out[index] = _decoded(instance, 0)
            continue
        if held is None or held[0] != instance.path:
            held = (instance.path, _decoded(instance, None))
        out[index] = held[1][one.frame.number - 1]


def hold_the_same(a: Slice, b: Slice) -> bool:
    """Whether two slices hold equal values, as far as they can be read."""
    if (a.frame.slope, a.frame.intercept) != (b.frame.slope, b.frame.intercept):
        return False
    values = np.empty((2, *a.instance.shape), np.int64)
    try:
        read_slices([a, b], values)
    except AutosegError:
        return False
    return bool((values[0] == values[1]).all())


def stored_type(instance: Instance) -> np.dtype[Any]:
    """The type of stored values. Raises AutosegError where it is none that is read."""
    bits = instance.bits[0]
    if instance.is_float:
        return np.dtype(f"f{bits // 8}")
    if instance.samples != 1:
        raise AutosegError(f"{instance.path}: holds colours, where a scan is expected.")
    if bits not in (1, 8, 16, 32):
        raise AutosegError(f"{instance.path}: has {bits} bits for each voxel, which is not read.")
    return np.dtype(f"{'i' if instance.is_signed else 'u'}{max(1, bits // 8)}")


def _native(instance: Instance, number: int) -> NDArray[Any]:
    """A frame that is stored as it is; bits above those that count are not looked at."""
    kind = stored_type(instance).newbyteorder("<")
    rows, columns = instance.shape
    start = (instance.pixel_offset or 0) + (number - 1) * rows * columns * kind.itemsize
    with instance.path.open("rb") as file:
        file.seek(start)
        values = np.fromfile(file, kind, rows * columns)
    if values.size < rows * columns:
        raise AutosegError(
            f"{instance.path}: is cut short ({values.size} of {rows * columns} voxels). Export it "
            "again from its source."
        )
    allocated, stored = instance.bits
    if 0 < stored < allocated:
        values = _without_high_bits(values, allocated - stored)
    return values.reshape(rows, columns)


def _without_high_bits(values: NDArray[Any], unused: int) -> NDArray[Any]:
    """Numbers of fewer bits; of signed ones the highest bit that counts is the sign."""
    if values.dtype.kind == "u":
        return values & (np.iinfo(values.dtype).max >> unused)
    return (values << unused) >> unused


def _decoded(instance: Instance, index: int | None) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Those that are not compressed may lack a preamble, or are to be inflated as a whole.
            is_plain = not UID(instance.transfer_syntax).is_encapsulated
            source = open_dataset(instance.path) if is_plain else instance.path
            array: NDArray[Any] = pixel_array(source, index=index, raw=True)
        return array
    except Exception as error:  # of a damaged stream decoders raise anything
        name = UID(instance.transfer_syntax).name
        more = (
            ", or `pip install pylibjpeg-libjpeg` (its licence is GPL-3)"
            if instance.transfer_syntax in JPEG
            else ""
        )
        raise AutosegError(
            f"{instance.path}: its voxels ({name}, {instance.bits[1]} bits) cannot be decoded: "
            f"{_reason(error)}. Export it again uncompressed{more}."
        ) from None


def _reason(error: Exception) -> str:
    """What the decoders say, the last line of each; theirs may be several."""
    told = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return (told[-1] if told else type(error).__name__)[:LONGEST_REASON]
