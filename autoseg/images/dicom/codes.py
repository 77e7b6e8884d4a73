"""What segments are called in SNOMED CT, from a table that users can add to (PS3.16 CID 7150)."""

import colorsys
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from autoseg.errors import AutosegError
from autoseg.records import Record, parse_record

GOLDEN = 0.618034  # of a circle of hues: neighbours look different
SIDES = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
SHORT_SIDES = {"l": "left", "lt": "left", "lh": "left", "r": "right", "rt": "right", "rh": "right"}


class Code(NamedTuple):
    """A coded concept, as DICOM has them."""

    value: str
    scheme: str
    meaning: str


UNKNOWN = (Code("85756007", "SCT", "Tissue"), Code("85756007", "SCT", "Tissue"))


class Structure(Record):
    """The codes of classes that have one of these names."""

    names: tuple[str, ...]
    category: Code
    type: Code
    modifier: Code | None = None


class CodeTable(Record):
    """Structures; the first that has a name counts."""

    structure: tuple[Structure, ...]


class SegmentCodes(Record):
    """The codes of one segment."""

    category: Code
    type: Code
    modifier: Code | None = None


def read_codes(path: Path) -> CodeTable:
    """A table of codes. Raises AutosegError when it is none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AutosegError(f"{path}: cannot be read as a table of codes ({error}).") from None
    return parse_record(CodeTable, content, str(path))


@cache
def known_codes() -> CodeTable:
    """The table that comes with autoseg."""
    return read_codes(Path(__file__).with_name("codes.toml"))


def codes_of(name: str, own: CodeTable | None = None) -> SegmentCodes:
    """The codes of a class by its name: of the user's table, then ours; else those of tissue.

    Left and right in a name become a modifier.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).casefold().split()
    side = next((SHORT_SIDES.get(w, w) for w in words if SHORT_SIDES.get(w, w) in SIDES), None)
    bare = " ".join(word for word in words if SHORT_SIDES.get(word, word) not in SIDES)
    for table in (own, known_codes()):
        for one in table.structure if table else ():
            folded = {other.casefold() for other in one.names}
            if name.casefold() in folded or " ".join(words) in folded:
                return SegmentCodes(category=one.category, type=one.type, modifier=one.modifier)
            if bare in folded:
                modifier = one.modifier or (Code(*SIDES[side]) if side else None)
                return SegmentCodes(category=one.category, type=one.type, modifier=modifier)
    return SegmentCodes(category=UNKNOWN[0], type=UNKNOWN[1])


def colour_of(number: int) -> tuple[int, int, int]:
    """An RGB colour of a segment, always the same for its number."""
    red, green, blue = colorsys.hsv_to_rgb((number * GOLDEN) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def cielab_of(number: int) -> list[int]:
    """The same colour as DICOM has it: CIELab in 16 bits (PS3.3 C.10.7.1.1)."""
    from skimage.color import rgb2lab

    lightness, a, b = rgb2lab([[[part / 255 for part in colour_of(number)]]])[0, 0]
    scaled = (lightness / 100, (a + 128) / 255, (b + 128) / 255)
    return [round(part * 65535) for part in scaled]
