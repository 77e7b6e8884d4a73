"""TIFF: 2D pictures, and volumes of one slice a page whose spacing is in a side file.

The tags say what must come out. Plain pixels are read as they are; for packed ones SimpleITK is
asked first, then pillow, and the first that gives just what the tags say is believed: either drops
channels, bits or pages of some files without a word.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Spacing3
from autoseg.images.pictures import PICTURE_ERRORS, SPREAD, not_turned, opened_picture
from autoseg.images.raw import Format, Oddity, RawImage, nifti_header_of, place, reading
from autoseg.images.tiff_tags import (
    ALPHA,
    GREY,
    PALETTE,
    RGB,
    UPRIGHT,
    WHITE_IS_ZERO,
    Page,
    Pixels,
    as_stored,
    check_bytes,
    read_pages,
)
from autoseg.records import read_json

ERRORS = (*PICTURE_ERRORS, OverflowError, struct.error, zlib.error)

OTHER_AXES = re.compile(r'\b(channels|frames|SizeC|SizeT)="?(\d+)')  # of ImageJ and OME
IMAGEJ_SLICES = re.compile(r"^images=(\d+)", re.MULTILINE)


def read_tiff(path: Path) -> RawImage:
    """Read a picture [channel, 1, y, x] or, from several pages, a volume [channel, z, y, x].

    A volume's spacing is in its side file. A picture is 1 mm wide a pixel unless it has one too:
    the resolution in its tags is a scanner's or printer's. Alpha is dropped. Of a palette image
    the array holds the indices: microscopes store look-up tables for display that way. Pixels are
    as stored, whatever the tags say of turning or inverting them for display.
    """
    with reading(path, "TIFF", ERRORS):
        pages = read_pages(path)
        check_bytes(path, pages)
    _refuse_what_is_no_scan(path, pages)
    z_mm, y_mm, x_mm = _spacing_mm(path, len(pages))
    array = _decode(path, pages)  # [z, y, x] or [z, y, x, sample]
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    extra = pages[0].pixels.extra_samples
    meanings = [None] * (len(array) - len(extra)) + [*extra]
    if not set(ALPHA).isdisjoint(extra):
        array = array[[channel for channel, kind in enumerate(meanings) if kind not in ALPHA]]
    affine = np.diag([x_mm, y_mm, z_mm, 1.0])
    header = nifti_header_of(affine, axes=2 if len(pages) == 1 else 3)
    return RawImage(array, place(path, array, affine), header, oddities=tuple(_oddities(pages)))


def _oddities(pages: Sequence[Page]) -> Iterator[Oddity]:
    """Tags that others may obey, where pixels are given as they are stored."""
    turned = {page.orientation for page in pages} - {UPRIGHT}
    if turned:
        yield not_turned(max(turned))
    if pages[0].pixels.photometric == WHITE_IS_ZERO:
        what = "states that 0 is white; its numbers are taken as they are stored."
        yield Oddity("photometric", what, "Save it with 0 as black if that is what it means.")


def side_files(path: Path) -> tuple[Path, ...]:
    """Where a TIFF's spacing may be: for `case_0000.tif` in `case_0000.json` or `case.json`.

    The latter is nnU-Net's name for it. The first that exists is taken.
    """
    without_channel = re.sub(r"(?<=.)_\d{4}$", "", path.stem)
    stems = dict.fromkeys((path.stem, without_channel))
    return tuple(path.with_name(f"{stem}.json") for stem in stems)


def _spacing_mm(path: Path, page_count: int) -> Spacing3:
    side = next((file for file in side_files(path) if file.is_file()), None)
    content: Any = read_json(side) if side else {}
    stated: Any = content.get("spacing") if isinstance(content, dict) else None
    if stated is None and page_count == 1:
        return 1.0, 1.0, 1.0  # other tools keep JSON files beside pictures, too
    if side is None:
        raise AutosegError(
            f"{path}: has {page_count} pages, so it is a volume, but TIFF states no distance "
            'between slices. Write {"spacing": [z, y, x]}, in millimetres, into '
            f"{side_files(path)[-1]}."
        )
    if not _is_spacing(stated):
        raise AutosegError(
            f"{side}: states no spacing that fits {path.name}. It must hold "
            '{"spacing": [z, y, x]}, three numbers in millimetres.'
        )
    z_mm, y_mm, x_mm = (float(mm) for mm in stated)
    return z_mm, y_mm, x_mm


def _is_spacing(stated: Any) -> bool:
    if not isinstance(stated, list) or len(stated) != 3:
        return False
    return all(type(mm) in (int, float) and 0 < mm < math.inf for mm in stated)


def _refuse_what_is_no_scan(path: Path, pages: Sequence[Page]) -> None:
    first = pages[0]
    if 0 in first.pixels.shape:
        raise AutosegError(f"{path}: has no pixels. Save it again from its source.")
    if any(page.pixels != first.pixels for page in pages):
        raise AutosegError(
            f"{path}: its pages differ in size or type, so they are no slices of one volume. Save "
            "equal pages."
        )
    if not ("ImageJ=" in first.description or "<OME" in first.description):
        return
    axes = {name: int(length) for name, length in OTHER_AXES.findall(first.description)}
    samples = math.prod(first.pixels.shape[2:])
    if math.prod(axes.values()) > samples:
        stated = ", ".join(f"{name}={length}" for name, length in axes.items())
        raise AutosegError(
            f"{path}: its pages are not only slices of one volume ({stated}). Save each channel or "
            "time point as a file of its own, for example case_0000.tif and case_0001.tif."
        )
    slices = IMAGEJ_SLICES.search(first.description)
    if slices and int(slices[1]) != len(pages):
        raise AutosegError(
            f"{path}: states {slices[1]} images, but has {len(pages)} pages. The file may be cut "
            "short; if ImageJ wrote all images into one page, save it as NIfTI or NRRD."
        )


def _decode(path: Path, pages: Sequence[Page]) -> NDArray[Any]:
    """All pixels as [z, y, x] or [z, y, x, sample], as the tags describe them."""
    if all(page.is_plain for page in pages):
        return _read_plain(path, pages)
    with _as_stored(path, pages) as file:
        pixels = _decode_with_simpleitk(file, pages)
        if pixels is None:
            pixels = _decode_with_pillow(path, file, pages)
    if pixels is None:
        kind = pages[0].pixels
        layout = "tiled" if kind.is_tiled else "in strips"
        raise AutosegError(
            f"{path}: neither SimpleITK nor pillow reads this kind of TIFF ({kind.dtype} pixels of "
            f"{math.prod(kind.shape[2:])} samples, {layout}, photometric kind {kind.photometric}). "
            "Save it uncompressed and in strips."
        )
    return pixels


@contextmanager
def _as_stored(path: Path, pages: Sequence[Page]) -> Iterator[Path]:
    """A file that decoders give the pixels of as stored: a copy, where tags would lead them on."""
    if all(page.orientation == UPRIGHT for page in pages) and (
        pages[0].pixels.photometric != WHITE_IS_ZERO
    ):
        yield path
        return
    content = bytearray(path.read_bytes())
    as_stored(content, pages)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{path.suffix}"
        copy.write_bytes(content)
        yield copy


def _read_plain(path: Path, pages: Sequence[Page]) -> NDArray[Any]:
    kind = pages[0].pixels
    pixels = np.empty((len(pages), *kind.shape), kind.dtype)
    with reading(path, "TIFF", ERRORS), path.open("rb") as file:
        for page, target in zip(pages, pixels, strict=True):
            target[...] = page.read_plain(file)
    return pixels


def _decode_with_simpleitk(path: Path, pages: Sequence[Page]) -> NDArray[Any] | None:
    """The pixels, or None when SimpleITK cannot, or does not give what the tags describe."""
    import SimpleITK as sitk  # noqa: N813

    kind = pages[0].pixels
    if kind.is_tiled or kind.bits < 8 or kind.photometric not in (WHITE_IS_ZERO, GREY, RGB):
        return None  # it would make 8-bit colours of them
    told = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it gives is looked at below
    try:
        pixels: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError:
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(told)
    if len(pages) == 1:
        pixels = pixels[None]
    fits = pixels.shape == (len(pages), *kind.shape) and pixels.dtype == kind.dtype.newbyteorder(
        "="
    )
    return pixels if fits else None


def _decode_with_pillow(path: Path, copy: Path, pages: Sequence[Page]) -> NDArray[Any] | None:
    """The pixels, or None when pillow cannot, or does not give what the tags describe."""
    from PIL import UnidentifiedImageError

    kind = pages[0].pixels
    pixels = np.empty((len(pages), *kind.shape), kind.dtype)
    damage = reading(path, "TIFF", PICTURE_ERRORS)
    with damage, suppress(UnidentifiedImageError), opened_picture(copy) as picture:
        for page, target in zip(pages, pixels, strict=True):
            picture.seek(page.index)
            decoded = np.array(picture)
            if decoded.shape != kind.shape or not _holds(picture.mode, decoded.dtype, kind):
                return None
            target[...] = decoded
        if kind.bits in SPREAD and kind.photometric != PALETTE:
            pixels //= SPREAD[kind.bits]
        return pixels
    return None


def _holds(mode: str, decoded: np.dtype[Any], kind: Pixels) -> bool:
    """Whether pillow's pixels are those of the file; it has 32 bits for all other integers."""
    if mode == "I":
        return kind.dtype.kind in "iu" and kind.bits <= 32
    return decoded.newbyteorder("=") == kind.dtype or (mode == "1" and kind.bits == 1)


TIFF = Format("TIFF", endings=(".tif", ".tiff"), read=read_tiff, side_files=side_files)
