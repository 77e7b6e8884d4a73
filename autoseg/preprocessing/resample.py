"""Resampling between grids: separable, so that each axis is one small matrix and one product.

Output voxel o of an axis lies at input coordinate (o + 1/2) * size_in / size_out - 1/2: the field
of view stays, and voxel centres do not coincide. Beyond the border the edge voxel repeats.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.geometry import Shape3, Spacing3

ROWS_AT_ONCE = 32
NEGLIGIBLE = 1e-9  # of a weight: a cubic spline's prefilter reaches far, but fades
TIE = np.float32(1e-5)
NEIGHBOURS = sorted(
    (step for step in product((-1, 0, 1), repeat=3) if any(step)),
    key=lambda step: sum(map(abs, step)),  # faces first
)
PREFILTER_REACH = 18  # voxels on either side; what lies beyond weighs less than 1e-10


def separate_axis(source_mm: Spacing3, target_mm: Spacing3, ratio: float) -> int | None:
    """The axis to resample on its own, to the nearest slice; None when all are alike.

    It is the coarsest axis of the source grid where that is anisotropic by more than `ratio`, else
    of the target grid; none where two axes tie for coarsest.
    """
    for spacing in (source_mm, target_mm):
        if max(spacing) / min(spacing) > ratio:
            coarsest = [axis for axis, mm in enumerate(spacing) if max(spacing) / mm == 1]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def interpolation_matrix(size_in: int, size_out: int, order: int) -> NDArray[np.float32]:
    """The linear map [size_out, size_in] that resamples an axis by a spline of order 0, 1 or 3."""
    position = _positions(size_in, size_out)
    if order == 0:
        matrix = np.eye(size_in)[nearest_indices(size_in, size_out)]
    elif order == 1:
        matrix = _linear_weights(position, size_in)
    else:
        matrix = _cubic_weights(position, size_in)
    return matrix.astype(np.float32)


def nearest_indices(size_in: int, size_out: int) -> NDArray[np.intp]:
    """For each output voxel of an axis, the input voxel nearest to it."""
    nearest = np.floor(_positions(size_in, size_out) + 0.5).astype(np.intp)
    return np.clip(nearest, 0, size_in - 1)


def resample_image(
    image: NDArray[np.float32], shape_vox: Shape3, order: int, separate: int | None
) -> NDArray[np.float32]:
    """Resample [channel, z, y, x] to another shape, clipped to the range that it had.

    With a `separate` axis the others are resampled within each slice across it, each slice clipped
    to its own range, and slices are then taken from the nearest position.
    """
    if image.shape[1:] == shape_vox:
        return image
    axes = [axis for axis in range(3) if axis != separate]
    # Slices first: those taken twice cost twice, but those dropped are never resampled.
    if separate is not None:
        chosen = nearest_indices(image.shape[1 + separate], shape_vox[separate])
        image = np.take(image, chosen, axis=1 + separate)
    range_axes = tuple(1 + axis for axis in axes)
    low = image.min(axis=range_axes, keepdims=True)
    high = image.max(axis=range_axes, keepdims=True)
    for axis in sorted(axes, key=lambda a: shape_vox[a] / image.shape[1 + a]):  # shrink first
        if image.shape[1 + axis] != shape_vox[axis]:
            matrix = interpolation_matrix(image.shape[1 + axis], shape_vox[axis], order)
            image = apply_along(image, matrix, axis)
    return np.clip(image, low, high, out=image) if order > 1 else image


def resample_classes(
    classes: NDArray[np.uint8], shape_vox: Shape3, order: int, separate: int | None
) -> NDArray[np.uint8]:
    """Resample class indices [z, y, x]: each class's indicator is interpolated, the largest wins.

    Where the nearest voxel's class is among those tied for largest, it wins. Each class is
    interpolated around its own voxels only, and the most common one is what the others leave.
    """
    if classes.shape == shape_vox:
        return classes
    nearest_class = classes
    for axis in range(3):
        chosen = nearest_indices(classes.shape[axis], shape_vox[axis])
        nearest_class = np.take(nearest_class, chosen, axis=axis)
    if order == 0:
        return nearest_class
    statistics = cc3d.statistics(classes, no_slice_conversion=True)
    common = int(np.argmax(statistics["voxel_counts"]))
    maps = [
        interpolation_matrix(size_in, size_out, 0 if axis == separate else order)
        for axis, (size_in, size_out) in enumerate(zip(classes.shape, shape_vox, strict=True))
    ]
    rest = np.ones(shape_vox, dtype=np.float32)  # what the classes so far leave
    best = np.full(shape_vox, -1, dtype=np.float32)
    nearest_score = np.zeros(shape_vox, dtype=np.float32)
    result = np.full(shape_vox, common, dtype=np.uint8)
    for value in np.flatnonzero(statistics["voxel_counts"]).tolist():
        if value == common:
            continue
        bounds = statistics["bounding_boxes"][value].reshape(3, 2)
        reached, score = _resample_indicator(classes, value, bounds, maps)
        rest[reached] -= score
        np.copyto(nearest_score[reached], score, where=nearest_class[reached] == value)
        better = score > best[reached] + TIE
        np.copyto(best[reached], score, where=better)
        result[reached][better] = value
    np.copyto(nearest_score, rest, where=nearest_class == common)
    # The lower of two classes that tie wins, unless the nearest voxel is of the other.
    wins = rest > best + np.where(result < common, TIE, -TIE)
    np.copyto(best, rest, where=wins)
    result[wins] = common
    np.copyto(result, nearest_class, where=nearest_score >= best - TIE)
    return result


def resample_numbers(numbers: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[Any]:
    """Numbered objects [z, y, x] on a grid of another shape, that of `inside`: 0 outside it.

    Each voxel has the number of the nearest one; where that is none, though the voxel is inside,
    that of a neighbour, ring by ring. What no object reaches stays 0.
    """
    result = numbers
    for axis, size in enumerate(inside.shape):
        if result.shape[axis] != size:
            result = np.take(result, nearest_indices(result.shape[axis], size), axis=axis)
    result = np.where(inside, result, 0)
    last = np.array(inside.shape) - 1
    left = np.argwhere(inside & (result == 0))  # [voxel, 3]
    while len(left):
        found = np.zeros(len(left), result.dtype)
        for step in NEIGHBOURS:
            beside = result[tuple(np.clip(left + step, 0, last).T)]
            np.copyto(found, beside, where=found == 0)
        if not found.any():
            break
        result[tuple(left.T)] = found
        left = left[found == 0]
    return result


def _resample_indicator(
    classes: NDArray[np.uint8],
    value: int,
    bounds: NDArray[Any],
    maps: Sequence[NDArray[np.float32]],
) -> tuple[tuple[slice, ...], NDArray[np.float32]]:
    """One class's interpolated indicator, and the block of the output that it can reach.

    `bounds` are the first and last voxel of the class on each axis.
    """
    source = tuple(slice(int(first), int(last) + 1) for first, last in bounds)
    indicator = (classes[source] == value).astype(np.float32)[None]
    reached = []
    for axis, (part, matrix) in enumerate(zip(source, maps, strict=True)):
        rows = np.flatnonzero(matrix[:, part].any(axis=1))
        block = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
        indicator = apply_along(indicator, matrix[block, part], axis)
        reached.append(block)
    return tuple(reached), indicator[0]


def apply_along(
    array: NDArray[np.float32], matrix: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Multiply a matrix [out, in] along a spatial axis of [channel, z, y, x].

    Interpolation looks at a few neighbours, so each block of rows is multiplied with only those
    columns that are not 0.
    """
    shape = list(array.shape)
    shape[1 + axis] = len(matrix)
    result = np.empty(shape, dtype=np.float32)
    before = (slice(None),) * (1 + axis)
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(matrix)))
        used = np.flatnonzero((np.abs(matrix[rows]) > NEGLIGIBLE).any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
        _multiply(matrix[rows, columns], array[*before, columns], axis, result[*before, rows])
    return result


def _multiply(
    matrix: NDArray[np.float32], array: NDArray[np.float32], axis: int, out: NDArray[np.float32]
) -> None:
    """Write a dense product along an axis of [channel, z, y, x] into `out`."""
    if axis == 2:
        np.matmul(array, matrix.T, out=out)
    elif axis == 1:
        np.matmul(matrix, array, out=out)
    else:
        for channel, product in zip(array, out, strict=True):  # views, so nothing is copied
            z, y, x = channel.shape
            flat = np.ascontiguousarray(channel).reshape(z, y * x)
            np.matmul(matrix, flat, out=product.reshape(len(matrix), y * x))


def _positions(size_in: int, size_out: int) -> NDArray[Any]:
    positions: NDArray[Any] = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    return positions


def _linear_weights(position: NDArray[np.float64], size_in: int) -> NDArray[np.float64]:
    left = np.floor(position)
    right_weight = position - left
    return _scatter(left, [1 - right_weight, right_weight], size_in)


def _cubic_weights(position: NDArray[np.float64], size_in: int) -> NDArray[np.float64]:
    """Cubic B-spline interpolation of the edge-extended signal (Unser 1999, doi:10.1109/79.799930).

    The B-spline's coefficients are the signal filtered by sqrt(3) (sqrt(3) - 2)^|k|; the output is
    four of them, weighted. Edge extension sums what lies beyond onto the edge voxel.
    """
    left = np.floor(position)
    t = position - left
    weights = [
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    ]
    reach = np.arange(-PREFILTER_REACH, PREFILTER_REACH + 1)
    prefilter = np.sqrt(3) * (np.sqrt(3) - 2.0) ** np.abs(reach)
    taps = np.zeros((len(position), len(reach) + 3))  # [output, input voxels around it]
    for offset, weight in enumerate(weights):
        taps[:, offset : offset + len(reach)] += weight[:, None] * prefilter
    first = left - 1 - PREFILTER_REACH
    return _scatter(first, list(taps.T), size_in)


def _scatter(
    first: NDArray[np.float64], weights: Sequence[NDArray[np.float64]], size_in: int
) -> NDArray[np.float64]:
    rows = np.zeros((len(first), size_in))
    for offset, weight in enumerate(weights):
        column = np.clip(first + offset, 0, size_in - 1).astype(np.intp)
        rows[np.arange(len(first)), column] += weight
    return rows
