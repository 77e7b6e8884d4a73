"""Slices of a scan with the outlines of its masks, as a PNG that takes milliseconds to make."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from autoseg.geometry import Grid
from autoseg.reporting.charts import COLOURS
from autoseg.reporting.viewing import view_of

SLICES = 4
WIDEST_PX, TALLEST_PX = 280, 360  # of a slice
GAP_PX, TEXT_PX = 4, 15
DOT_PX = 3  # of dotted lines, and the gaps between
GREYS = 256 - len(COLOURS)  # what remains of a palette
WINDOW_PERCENTILES = (0.5, 99.5)
BLANK = 0.12  # of white, where there is no scan to show

Classes = Mapping[str, tuple[int, ...]]  # the values that make up each class, or region


@dataclass(frozen=True, slots=True)
class MosaicSlices:
    """What a mosaic shows: a few slices [slice, row, column] of a scan, its mask and a reference.

    The image is 0 to 1; without a scan it is None. `numbers` count the slices from 1, of `total`.
    """

    title: str
    image: NDArray[np.float32] | None
    mask: NDArray[np.integer[Any]]
    reference: NDArray[np.integer[Any]] | None
    classes: Classes
    pixel_mm: tuple[float, float]
    edges: tuple[str, str] | None
    numbers: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class MaskedScan:
    """A scan [z, y, x], its mask and a reference, any of the first and the last of which may be
    missing, all on one grid."""

    grid: Grid
    image: NDArray[np.float32] | None
    mask: NDArray[np.integer[Any]]
    reference: NDArray[np.integer[Any]] | None = None


def cut_slices(title: str, scan: MaskedScan, classes: Classes) -> MosaicSlices:
    """A few slices spread over the part that is labelled, as radiologists look at them."""
    view = view_of(scan.grid)
    mask = view.slices(scan.mask)  # [slice, row, column]
    reference = None if scan.reference is None else view.slices(scan.reference)
    values = [value for members in classes.values() for value in members]
    maps = [mask] if reference is None else [mask, reference]
    indices = _spread(np.array([np.isin(labels, values).any(axis=(1, 2)) for labels in maps]))
    return MosaicSlices(
        title=title,
        image=None if scan.image is None else _windowed(view.slices(scan.image)[indices]),
        mask=mask[indices],
        reference=None if reference is None else reference[indices],
        classes=classes,
        pixel_mm=view.pixel_mm,
        edges=view.edges,
        numbers=tuple(index + 1 for index in indices),
        total=len(mask),
    )


def draw_mosaic(scan: MosaicSlices) -> bytes:
    """A PNG of slices side by side: outlines of the mask solid, those of the reference dotted."""
    width_px, height_px = _size_px(scan)
    parts = []
    for place, number in enumerate(scan.numbers):
        picture = _grey(scan, place, (width_px, height_px))
        if scan.reference is not None:
            _outline(picture, scan.reference[place], scan.classes, dotted=True)
        _outline(picture, scan.mask[place], scan.classes, dotted=False)
        edges = "" if scan.edges is None else f"{scan.edges[0]} left, {scan.edges[1]} up"
        where = f"{number} of {scan.total}" if scan.total > 1 else ""
        parts += [_captioned(picture, where, edges if place == 0 else "")]
        parts += [np.full((len(parts[0]), GAP_PX), GREYS - 1, np.uint8)]
    return _to_png(np.concatenate(parts[:-1], axis=1))


def _windowed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities as 0 to 1, without the outermost half per cent."""
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    scaled: NDArray[np.float32] = ((image - low) / max(high - low, 1e-6)).clip(0, 1)
    return scaled.astype(np.float32)


def _spread(labelled: NDArray[np.bool_]) -> list[int]:
    """Slices spread evenly over those where any map [map, slice] has labels, or else over all."""
    occupied = np.flatnonzero(labelled.any(axis=0))
    first, last = (occupied[0], occupied[-1]) if len(occupied) else (0, labelled.shape[1] - 1)
    positions = np.linspace(first, last, SLICES + 2)[1:-1]
    return sorted({int(position) for position in positions.round()})


def _size_px(scan: MosaicSlices) -> tuple[int, int]:
    """Width and height of a slice with its true aspect ratio."""
    rows, columns = scan.mask.shape[1:]
    height_mm, width_mm = rows * scan.pixel_mm[0], columns * scan.pixel_mm[1]
    scale = min(WIDEST_PX / width_mm, TALLEST_PX / height_mm)
    return max(8, round(width_mm * scale)), max(8, round(height_mm * scale))


def _grey(scan: MosaicSlices, place: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """A slice as indices of the palette's greys."""
    if scan.image is None:
        return np.full(size_px[::-1], round(BLANK * (GREYS - 1)), np.uint8)
    resized = Image.fromarray(scan.image[place]).resize(size_px, Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(resized) * (GREYS - 1)).round().astype(np.uint8)


def _outline(
    picture: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: Classes, dotted: bool
) -> None:
    """Draw a line along the inner border of each class, where its resized mask is one half."""
    height_px, width_px = picture.shape
    rows, columns = np.ogrid[:height_px, :width_px]
    drawn = ((rows + columns) // DOT_PX) % 2 == 0 if dotted else np.True_
    for order, values in enumerate(classes.values()):
        inside = np.isin(labels, values)
        if not inside.any():
            continue
        share = Image.fromarray(inside.astype(np.float32))
        resized = share.resize((width_px, height_px), Image.Resampling.BILINEAR)
        border = _border(np.asarray(resized) >= 0.5)
        picture[border & drawn] = GREYS + order % len(COLOURS)


def _border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost two pixels of a mask; the picture's own edge is none."""
    core = np.pad(inside, 1, mode="edge")
    for _ in range(2):
        kept = core.copy()
        kept[1:] &= core[:-1]
        kept[:-1] &= core[1:]
        kept[:, 1:] &= core[:, :-1]
        kept[:, :-1] &= core[:, 1:]
        core = kept
    return inside & ~core[1:-1, 1:-1]


def _captioned(picture: NDArray[np.uint8], left: str, right: str) -> NDArray[np.uint8]:
    """A slice with small text below it."""
    width_px = picture.shape[1]
    strip = Image.new("L", (width_px, TEXT_PX), 255)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(11)
    pen.text((2, 1), left, fill=40, font=font)
    pen.text((width_px - 2, 1), right, fill=40, font=font, anchor="ra")
    grey = (np.asarray(strip, np.float32) / 255 * (GREYS - 1)).round().astype(np.uint8)
    return np.concatenate([picture, grey])


def _to_png(indices: NDArray[np.uint8]) -> bytes:
    """A picture of greys and the classes' colours, a byte a pixel."""
    greys = [round(step * 255 / (GREYS - 1)) for step in range(GREYS)]
    colours = [int(colour[i : i + 2], 16) for colour in COLOURS for i in (1, 3, 5)]
    picture = Image.fromarray(indices, "P")
    picture.putpalette([tone for tone in greys for _ in range(3)] + colours)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
