"""The text that NRRD and MetaImage files begin with: where their voxels are, and how packed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.images.raw import fill, inflated, refuse_promises

HEADER_BYTES = 1024 * 1024  # more than any real header has
MOST_FILES = 2**16  # more slices than any scan has
PIECE_BYTES = 1024 * 1024
FIELD = re.compile(r"([^:=]+)[:=]\s*(.*)")
NUMBERED = re.compile(
    r"(.*%0?\d*d\S*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+).*"
)  # pattern, first, last, step
PLACES = {
    *("spacedirections", "spaceorigin"),
    *("offset", "origin", "position", "transformmatrix", "rotation", "orientation"),
}
END = -1  # of the skipped bytes: voxels are the last ones of their file

Packing = Literal["raw", "deflate", "other"]


@dataclass(frozen=True, slots=True)
class TextHeader:
    """The fields, by lower-case name without spaces, and the file names that a LIST names."""

    path: Path
    fields: dict[str, str]
    listed: tuple[str, ...]
    end_byte: int

    @property
    def is_meta(self) -> bool:
        return "elementdatafile" in self.fields

    @property
    def data_file(self) -> str:
        return self.fields.get("elementdatafile") or self.fields.get("datafile") or "LOCAL"

    @property
    def encoding(self) -> str:
        """In NRRD's words; MetaImage has two fields for it."""
        if not self.is_meta:
            return self.fields.get("encoding", "raw").lower()
        if not _is_true(self.fields.get("binarydata", "True")):
            return "ascii"
        return "gzip" if _is_true(self.fields.get("compresseddata", "False")) else "raw"

    @property
    def packing(self) -> Packing:
        kinds: dict[str, Packing] = {"raw": "raw", "gz": "deflate", "gzip": "deflate"}
        return kinds.get(self.encoding, "other")

    @property
    def is_big_endian(self) -> bool:
        orders = ("binarydatabyteordermsb", "elementbyteordermsb")
        stated = {_is_true(self.fields[name]) for name in orders if name in self.fields}
        if len(stated) > 1:
            raise ValueError("it states two orders of bytes")
        return True in stated or self.fields.get("endian", "little").lower() == "big"

    @property
    def is_placed(self) -> bool:
        """Whether it states where voxels lie, and not only how large they are."""
        return bool(PLACES & self.fields.keys())

    @property
    def voxel_file(self) -> tuple[Path, int] | None:
        """The one file that holds all voxels, and the byte that they begin at."""
        files = _data_files(self) or (self.path,)
        start = self.end_byte if files[0] == self.path else 0
        return (files[0], start) if len(files) == 1 else None

    def skipped(self, name: str) -> int:
        """Lines, or bytes, before the voxels of every file."""
        return int(self.fields.get(name, "0"))


def data_files(path: Path) -> tuple[Path, ...]:
    """The files beside a `.mhd`, `.mha` or `.nrrd` that it says its voxels are in."""
    return _data_files(read_text_header(path))


def _data_files(header: TextHeader) -> tuple[Path, ...]:
    """Either format names one file, a LIST of them, or a pattern with first, last and step."""
    numbered = NUMBERED.fullmatch(header.data_file)
    if header.data_file.upper() == "LOCAL":
        names = []
    elif header.data_file.upper().startswith("LIST"):
        names = list(header.listed)
    elif numbered:
        first, last, step = (int(number) for number in numbered.groups()[1:])
        step = step or 1
        numbers = range(first, last + (1 if step > 0 else -1), step)
        names = [header.data_file]
        if len(numbers) <= MOST_FILES and numbered[1].count("%") == 1:
            names = [numbered[1] % number for number in numbers]
    else:
        names = [header.data_file]
    return tuple(header.path.parent / name for name in names)


def read_stored(
    header: TextHeader, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    """Raw or deflated numbers of a shape, and how many bytes there are beyond them.

    Raises AutosegError when files do not share the numbers evenly, EOFError when there are too few,
    and zlib.error when they are damaged.
    """
    files = _data_files(header) or (header.path,)
    stored = dtype.newbyteorder(">" if header.is_big_endian else "<")
    total = prod(shape)
    refuse_promises(total * dtype.itemsize, sum(file.stat().st_size for file in files))
    parts = shape[0] if len(files) <= shape[0] else prod(shape[:2])
    if parts % len(files):
        raise AutosegError(
            f"{header.path}: names {len(files)} files for {parts} slices. Put back those that are "
            "missing, or correct the list."
        )
    array = np.empty(shape, stored)
    shares = array.reshape(len(files), -1)
    surplus = 0
    for file, share in zip(files, shares, strict=True):
        try:
            surplus += fill(share, _pieces(header, file, share.nbytes))
        except EOFError as error:
            named = f" in {file.name}, one of {len(files)} files" if len(files) > 1 else ""
            raise EOFError(f"{error}{named}") from None
    return array, surplus


def _pieces(header: TextHeader, file: Path, wanted_bytes: int) -> Iterator[bytes]:
    """The bytes of a file's voxels, unpacked, without what is to be skipped."""
    skipped = header.skipped("headersize" if header.is_meta else "byteskip")
    with file.open("rb") as stream:
        if file == header.path:
            stream.seek(header.end_byte)
        for _ in range(header.skipped("lineskip")):
            stream.readline()
        if header.packing == "deflate":
            pieces = inflated(stream)
            while skipped > 0:
                piece = next(pieces, b"")
                yield piece[skipped:]
                skipped = skipped - len(piece) if piece else 0
            yield from pieces
            return
        if skipped == END:
            stream.seek(file.stat().st_size - wanted_bytes)
        elif header.is_meta and skipped:
            stream.seek(skipped)
        else:
            stream.seek(skipped, 1)
        while piece := stream.read(PIECE_BYTES):
            yield piece


def _is_true(text: str) -> bool:
    return text[:1] in "Tt1" and bool(text)


def read_text_header(path: Path) -> TextHeader:
    """The header of a file, as it is."""
    with path.open("rb") as file:
        lines = file.read(HEADER_BYTES).splitlines(keepends=True)
    is_nrrd = bool(lines) and lines[0].startswith(b"NRRD")
    fields: dict[str, str] = {}
    end_byte = 0
    for count, line in enumerate(lines, start=1):
        end_byte += len(line)
        text = line.decode(errors="replace").strip()
        field = FIELD.fullmatch(text)
        name = field[1].replace(" ", "").lower() if field else ""
        if field and not text.startswith("#"):
            fields[name] = field[2].strip()
        is_list = name in ("elementdatafile", "datafile") and fields[name][:4].upper() == "LIST"
        if is_list:
            names = (line.decode(errors="replace").strip() for line in lines[count:])
            return TextHeader(path, fields, tuple(name for name in names if name), end_byte)
        if name == "elementdatafile" or (is_nrrd and not text):
            break
    return TextHeader(path, fields, (), end_byte)
