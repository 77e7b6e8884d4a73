"""The text that NRRD and MetaImage files begin with: where their voxels are, and how packed."""

import re
from dataclasses import dataclass
from pathlib import Path

from autoseg.images.raw import inflated_bytes

HEADER_BYTES = 1024 * 1024  # more than any real header has
FIELD = re.compile(r"([^:=]+)[:=]\s*(.*)")
NUMBERED = re.compile(r"(.*%0?\d*d\S*)\s+(\d+)\s+(\d+)\s+(\d+).*")  # pattern, first, last, step


@dataclass(frozen=True, slots=True)
class TextHeader:
    """The fields, by lower-case name without spaces, and the file names that a LIST names."""

    fields: dict[str, str]
    listed: tuple[str, ...]
    end_byte: int

    @property
    def data_file(self) -> str:
        return self.fields.get("elementdatafile") or self.fields.get("datafile") or "LOCAL"


def data_files(path: Path) -> tuple[Path, ...]:
    """The files beside a `.mhd`, `.mha` or `.nrrd` that it says its voxels are in.

    Either format names one file, a LIST of them, or a pattern with first, last and step.
    """
    header = _read_text_header(path)
    numbered = NUMBERED.fullmatch(header.data_file)
    if header.data_file.upper() == "LOCAL":
        names = []
    elif header.data_file.upper().startswith("LIST"):
        names = list(header.listed)
    elif numbered:
        first, last, step = (int(number) for number in numbered.groups()[1:])
        names = [numbered[1] % number for number in range(first, last + 1, max(step, 1))]
    else:
        names = [header.data_file]
    return tuple(path.parent / name for name in names)


def check_compression(path: Path, voxel_bytes: int) -> None:
    """Confirm the checksum of compressed voxels, since ITK takes damaged ones without a word.

    Raises zlib.error or EOFError when they are damaged or too few.
    """
    header = _read_text_header(path)
    is_meta = "elementdatafile" in header.fields
    if is_meta:
        is_compressed = header.fields.get("compresseddata", "F")[:1] in "Tt1"
    else:
        is_compressed = header.fields.get("encoding", "raw").lower() in ("gz", "gzip")
    places = [(file, 0) for file in data_files(path)] or [(path, header.end_byte)]
    skipped = {"headersize", "lineskip", "byteskip"} & header.fields.keys()
    if not is_compressed or len(places) > 1 or skipped:
        return
    [(file, start)] = places
    with file.open("rb") as stream:
        held = inflated_bytes(stream, start)
    if is_meta and held < voxel_bytes:
        raise EOFError(f"it holds {held} of {voxel_bytes} bytes of voxels")


def _read_text_header(path: Path) -> TextHeader:
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
        if field:
            fields[name] = field[2]
        is_list = name in ("elementdatafile", "datafile") and fields[name][:4].upper() == "LIST"
        if is_list:
            listed = tuple(line.decode(errors="replace").strip() for line in lines[count:])
            return TextHeader(fields, listed, end_byte)
        if name == "elementdatafile" or (is_nrrd and not text):
            break
    return TextHeader(fields, (), end_byte)
