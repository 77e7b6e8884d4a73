"""Errors that a first stage might have made, added to the masks that a second stage learns from.

Balls are exact: a voxel is in reach of another if the squared distance of their indices is at most
the squared radius. Rows along x are packed into bits, so that one instruction moves 64 voxels.
"""

import math
from collections.abc import Callable
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.augmentation.sample import MaskAugmentation

WORD_BITS = 64
LITTLE_WORDS = np.dtype("<u8")
ONE, LAST = np.uint64(1), np.uint64(WORD_BITS - 1)  # bits to move by

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]


def change_mask(classes: NDArray[np.uint8], drawn: MaskAugmentation) -> NDArray[np.uint8]:
    """Class indices [z, y, x] with every class grown, shrunk, opened or closed, or with one
    component of every class gone.

    Which of the four, and which component, is drawn for each class. As in nnU-Net v2's cascade a
    class that grows takes the place of others, and only small components are lost.
    """
    rng = np.random.default_rng(drawn.seed)
    changed = classes.copy()
    if drawn.radius_vox or drawn.loses_component:
        values = np.unique(classes.ravel()[_run_starts(classes)])
        present = [int(value) for value in values if value]
        if drawn.radius_vox:
            for value in present:
                operation = OPERATIONS[rng.integers(len(OPERATIONS))]
                _change_class(changed, value, operation, drawn.radius_vox)
        if drawn.loses_component:
            _lose_components(changed, present, drawn.largest_lost_vox, rng)
    return changed


def grow(mask: Mask, radius_vox: int) -> Mask:
    """Dilation by a ball."""
    stride = mask.shape[1] + radius_vox  # of one step along z
    widened = [_pack(mask, radius_vox)]  # by 0, 1, 2... voxels along x
    for _ in range(radius_vox):
        widened.append(_widen_by_one(widened[-1]))
    grown, slab = np.zeros_like(widened[0]), np.zeros_like(widened[0])
    reaches: dict[int, int] = {}  # along x, by distance along y, of the disc that the slab grew by
    for dz in range(radius_vox, -1, -1):  # each disc lies within the next
        widest_dy = math.isqrt(radius_vox**2 - dz**2)
        for dy in range(widest_dy + 1):
            reach = math.isqrt(radius_vox**2 - dz**2 - dy**2)
            if reaches.get(dy) != reach:
                _add_moved(slab, widened[reach], dy)
                reaches[dy] = reach
        _add_moved(grown, slab, dz * stride)
    return _unpack(grown, mask.shape, radius_vox)


def shrink(mask: Mask, radius_vox: int) -> Mask:
    """Erosion by a ball; what lies beyond the border counts as part of the mask."""
    return ~grow(~mask, radius_vox)


def close(mask: Mask, radius_vox: int) -> Mask:
    return shrink(grow(mask, radius_vox), radius_vox)


def open_up(mask: Mask, radius_vox: int) -> Mask:
    return grow(shrink(mask, radius_vox), radius_vox)


OPERATIONS: tuple[Callable[[Mask, int], Mask], ...] = (grow, shrink, close, open_up)


def _change_class(
    changed: NDArray[np.uint8], value: int, operation: Callable[[Mask, int], Mask], radius_vox: int
) -> None:
    """Apply an operation to one class in place."""
    mask = changed == value
    # Twice the radius, so that closing sees the background beyond what it grows to.
    around = _box_around(mask, margin_vox=2 * radius_vox)
    if around is None:
        return
    part, before = changed[around], mask[around]
    after = operation(before, radius_vox)
    part *= _as_bytes(~(before | after))
    part += _as_bytes(after) * np.uint8(value)


def _box_around(mask: Mask, margin_vox: int) -> tuple[slice, ...] | None:
    """The box that holds a mask and a margin, within the array; None for an empty mask."""
    plane: Mask = np.logical_or.reduce(mask, axis=0)
    if not plane.any():
        return None
    box = []
    for occupied in (mask.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0)):
        found = np.flatnonzero(occupied)
        first, last = int(found[0]) - margin_vox, int(found[-1]) + margin_vox
        box.append(slice(max(0, first), last + 1))
    return tuple(box)


def _as_bytes(mask: Mask) -> NDArray[np.uint8]:
    """0 and 1, without a copy: products of booleans and bytes are slow."""
    return mask.view(np.uint8)


def _lose_components(
    changed: NDArray[np.uint8], present: list[int], largest_vox: int, rng: np.random.Generator
) -> None:
    """Remove one small component of every class that has any, in place."""
    components = cc3d.connected_components(changed, connectivity=26)  # never of two classes
    starts = _run_starts(components)
    of_run = components.ravel()[starts]
    sizes = np.bincount(of_run, weights=np.diff(starts, append=components.size))
    class_of = np.zeros(len(sizes), np.uint8)
    class_of[of_run] = changed.ravel()[starts]
    for value in present:
        small = np.flatnonzero((class_of == value) & (sizes < largest_vox))
        if len(small):
            changed *= _as_bytes(components != small[rng.integers(len(small))])


def _run_starts(values: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.intp]:
    """Where runs of equal values begin in a flattened array; far fewer than its voxels."""
    flat = values.ravel()
    return np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))


def _pack(mask: Mask, gap_vox: int) -> Words:
    """Rows along x as bits [word, z * y], with empty rows between one z and the next."""
    depth, height, width = mask.shape
    words = math.ceil(width / WORD_BITS)
    padded = np.zeros((depth, height + gap_vox, words * WORD_BITS), bool)
    padded[:, :height, :width] = mask
    bits = np.packbits(padded, bitorder="little").view(LITTLE_WORDS)
    return np.ascontiguousarray(bits.reshape(-1, words).T)


def _unpack(bits: Words, shape: tuple[int, ...], gap_vox: int) -> Mask:
    depth, height, width = shape
    rows = np.ascontiguousarray(bits.T).view(np.uint8)
    mask = np.unpackbits(rows, axis=1, count=width, bitorder="little").view(np.bool_)
    return mask.reshape(depth, height + gap_vox, width)[:, :height]


def _widen_by_one(bits: Words) -> Words:
    """Each bit and its neighbours along x. Bits behind a row's end bring nothing new into it."""
    widened: Words = bits << ONE
    widened |= bits
    widened |= bits >> ONE
    widened[1:] |= bits[:-1] >> LAST
    widened[:-1] |= bits[1:] << LAST
    return widened


def _add_moved(target: Words, source: Words, distance: int) -> None:
    """Add a source, moved by a distance both ways along its rows, to the target's bits."""
    if distance == 0:
        target |= source
    elif distance < source.shape[1]:
        target[:, distance:] |= source[:, :-distance]
        target[:, :-distance] |= source[:, distance:]
