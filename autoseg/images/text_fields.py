"""What the fields of NRRD and MetaImage say of places and numbers, and what in them cannot be."""

import re

from autoseg.images.raw import Oddity
from autoseg.images.text_headers import PLACES, TextHeader

MM_PER_UNIT = {"mm": 1.0, "m": 1000.0, "cm": 10.0, "um": 0.001}
UNIT_NAMES = {"m": "metres", "cm": "centimetres", "um": "microns"}
SIZES = ("spacings", "elementspacing", "elementsize")
SCALES = {"elementtointensityfunctionslope": 1.0, "elementtointensityfunctionoffset": 0.0}
NO_PLACE = Oddity(
    "no_orientation",
    "states no orientation and no place; its axes are taken to grow towards left, posterior and "
    "superior, as ITK does.",
    "Save it with its directions and its origin.",
)


def check_numbers(header: TextHeader) -> None:
    """Raise ValueError where a place or size is no number; ITK takes what it begins with."""
    for name in {*PLACES, *SIZES, *SCALES} & header.fields.keys():
        for word in re.findall(r"[^\s,()]+", header.fields[name]):
            if word != "none":
                try:
                    float(word)
                except ValueError:
                    raise ValueError(f"{name} is {header.fields[name]!r}") from None


def stated_unit(header: TextHeader) -> tuple[str, list[Oddity]]:
    """The unit of lengths, which ITK takes for mm, and what to tell of another one."""
    stated = header.fields.get("distanceunits") or header.fields.get("spaceunits") or "mm"
    words = set(re.findall(r"[^\s\"]+", stated)) & MM_PER_UNIT.keys()
    if len(words) != 1 or words == {"mm"}:
        return "mm", []
    [unit] = words
    what = f"states its lengths in {UNIT_NAMES[unit]}; they are read as such, while ITK takes them "
    what += "for mm."
    return unit, [Oddity("unit", what, "If that is wrong, correct the unit; --fix writes mm.")]


def odd_numbers(header: TextHeader) -> list[Oddity]:
    """What to tell of sizes that are none, directions of other lengths, and scales."""
    oddities = []
    for name in SIZES:
        if not all(number > 0 for number in _sizes_mm(header, name)):  # nor NaN
            what = f"states the voxel size {header.fields[name]}; signs are left out, and what is "
            what += "no number is taken for 1."
            oddities.append(Oddity("header", what, "Correct the sizes in its header."))
    words = header.fields.get("transformmatrix", "").split()
    matrix = [float(word) for word in words]
    side = round(len(matrix) ** 0.5)
    rows = [matrix[start : start + side] for start in range(0, len(matrix), side or 1)]
    if any(abs(sum(number**2 for number in row) - 1) > 0.01 for row in rows):
        what = "states directions that are no unit vectors; voxels are as much larger or smaller."
        oddities.append(Oddity("header", what, "Correct its TransformMatrix."))
    for name, usual in SCALES.items():
        if float(header.fields.get(name, usual)) != usual:
            what = f"states {name} = {header.fields[name]}; numbers are read as stored, as by ITK."
            oddities.append(Oddity("header", what, "Save it with its values."))
    return oddities


def _sizes_mm(header: TextHeader, name: str) -> list[float]:
    """The voxel sizes of a field, without axes of components, which may have no number."""
    numbers = [float(word) for word in header.fields.get(name, "").split()]
    kinds = header.fields.get("kinds", "").split()
    are_space = [kind in ("domain", "space") for kind in kinds] or [True] * len(numbers)
    return [number for number, counts in zip(numbers, are_space, strict=False) if counts]


def misstated_size(header: TextHeader) -> tuple[Oddity, ...]:
    """What to tell of a MetaImage whose compressed voxels are not as long as it says."""
    place = header.voxel_file
    if not header.is_meta or header.packing != "deflate" or place is None:
        return ()
    held = place[0].stat().st_size - place[1]
    stated = header.fields.get("compresseddatasize")
    if stated == str(held):
        return ()
    what = f"states {stated or 'no'} bytes of compressed voxels, and has {held}; they are read to "
    what += "their end, while ITK gives numbers that are none."
    return (Oddity("header", what, "Save it anew, for other programs."),)
