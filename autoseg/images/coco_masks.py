"""Masks of COCO's annotations, to the pixel as pycocotools draws them: runs, and polygons.

Runs go down columns, from the left, and are of background and object in turn, background first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINER = 5  # outlines are followed on a grid that many times finer
FIRST_CHARACTER = 48
DIGIT_BITS, DIGIT, MORE, SIGN = 5, 0x1F, 0x20, 0x10  # of a character
AGAINST_TWO_BEFORE = 3  # compressed runs are differences from there on
FEWEST_NUMBERS = 6  # of a polygon: three corners
FARTHEST = 2**20  # pixels: a corner beyond was never drawn

Plane = NDArray[np.bool_]  # [y, x]
Shape2 = tuple[int, int]


def decode_runs(counts: str | Sequence[int], shape: Shape2) -> Plane:
    """The mask [y, x] of runs, compressed to text or not.

    Raises ValueError where they are not of so many pixels.
    """
    runs = np.array(_decompressed(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or int(runs.sum()) != shape[0] * shape[1]:
        raise ValueError(f"its runs are of {int(runs.sum())} pixels, not {shape[0]} x {shape[1]}")
    values = np.arange(len(runs)) % 2 == 1
    columns: Plane = np.repeat(values, runs).reshape(shape[::-1])
    return columns.T


def encode_runs(mask: Plane) -> str:
    """The compressed runs of a mask [y, x]."""
    flat = np.concatenate(([False], mask.T.reshape(-1)))
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    runs = np.diff(ends, prepend=0).tolist()
    return "".join(_compressed(runs))


def fill_polygon(corners: Sequence[float], shape: Shape2) -> Plane:
    """The pixels [y, x] of a polygon x, y, x, y, …, in which pixel 0 reaches from 0 to 1.

    The outline crosses the middles of columns; between its crossings of one column, in turn, pixels
    lie in and out. Raises ValueError where it has fewer than three corners, or one far away.
    """
    if len(corners) < FEWEST_NUMBERS or len(corners) % 2:
        raise ValueError(f"has a polygon of {len(corners)} numbers; three corners have six")
    if not (np.abs(np.array(corners, float)) <= FARTHEST).all():
        raise ValueError("has a corner that is no place in an image")
    height, width = shape
    x, y = np.concatenate([_followed(a, b) for a, b in _sides(corners)], axis=1)
    crosses = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[crosses], x[crosses + 1]) + 0.5) / FINER - 0.5
    row = (np.minimum(y[crosses], y[crosses + 1]) + 0.5) / FINER - 0.5
    there = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip(row[there], 0, height)).astype(np.int64)
    columns = column[there].astype(np.int64)
    mask = np.zeros(shape, bool)
    if len(columns):
        left, top = int(columns.min()), int(row.min())
        size = int(columns.max()) + 1 - left, int(row.max()) + 1 - top
        place = (columns - left) * size[1] + row - top
        changes = np.bincount(place, minlength=size[0] * size[1]).reshape(size)
        inside = np.cumsum(changes, axis=1) % 2 == 1  # each column is crossed in and out
        part = mask[top : top + size[1], left : left + size[0]]
        part[...] = inside.T[: len(part)]
    return mask


def _sides(corners: Sequence[float]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Both ends [x, y] of each side on the finer grid, the last of which closes the outline."""
    points = np.trunc(FINER * np.array(corners, float).reshape(-1, 2) + 0.5).astype(np.int64)
    yield from zip(points, np.roll(points, -1, axis=0), strict=True)


def _followed(start: NDArray[Any], end: NDArray[Any]) -> NDArray[np.int64]:
    """Points [x and y, point] from one end to the other, a step of the longer axis apart.

    Rounding is that of the way up the longer axis, whichever way is gone.
    """
    long = 0 if abs(end - start)[0] >= abs(end - start)[1] else 1
    low, high = (start, end) if start[long] <= end[long] else (end, start)
    steps = int(high[long] - low[long])
    slope = float(high[1 - long] - low[1 - long]) / max(1, steps)
    way = np.arange(steps + 1)
    points = np.empty((2, steps + 1), np.int64)
    points[long] = low[long] + way
    points[1 - long] = np.trunc(low[1 - long] + slope * way + 0.5)
    return points if low is start else points[:, ::-1]


def _decompressed(text: str) -> list[int]:
    """Runs of characters that hold five bits each, the lowest first, and whether more follow."""
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        value |= (code & DIGIT) << bits
        bits += DIGIT_BITS
        if code & MORE:
            continue
        if code & SIGN:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) >= AGAINST_TWO_BEFORE else 0))
        value = bits = 0
    return runs


def _compressed(runs: Sequence[int]) -> Iterator[str]:
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index >= AGAINST_TWO_BEFORE else 0)
        more = True
        while more:
            digit = value & DIGIT
            value >>= DIGIT_BITS
            more = value != (-1 if digit & SIGN else 0)
            yield chr(digit + (MORE if more else 0) + FIRST_CHARACTER)
