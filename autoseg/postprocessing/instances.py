"""The objects of a mask: components of each class, taken apart where objects touch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import pi
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.geometry import Box, Spacing3
from autoseg.postprocessing.flows import FlowRule, part_by_flow
from autoseg.postprocessing.smoothing import known_spacing_mm
from autoseg.postprocessing.touching import SPLITTABLE_VOXELS, Mask, NeckRule, Parts, take_apart
from autoseg.postprocessing.valleys import ValleyRule, part_at_valleys
from autoseg.records import Record

BESIDE_BORDER = NeckRule(
    prominence=0.6
)  # chosen on predicted nuclei: docs/decisions/0018-objects.md


class InstanceRule(Record):
    """What counts as one object.

    Where the model learned how deep voxels lie in their objects, `valleys` part them, or `flows`
    where it learned the ways to their middles; neither necks nor a border do then.

    Without `necks`, objects that touch are one. `border` is a value that keeps objects apart and
    is then given to the nearest, whatever its class: models of numbered objects predict one.

    What is smaller than `min_volume_mm3`, or than a ball of `smallest_mm` across, in a single slice
    a disc, is none; where nobody says how wide, models of things have a plan that does.
    """

    min_volume_mm3: float = Field(default=0.0, ge=0)
    smallest_mm: float | None = Field(default=None, ge=0)
    necks: NeckRule | None = NeckRule()
    border: int | None = None
    valleys: ValleyRule = ValleyRule()
    flows: FlowRule = FlowRule()

    def with_border(self, value: int) -> "InstanceRule":
        """The rule for a model that learned a border, beside which necks say little: outlines of
        learned masks are rough, and what they part further is most often one object. A rule of
        necks that somebody chose stays."""
        necks = BESIDE_BORDER if self.necks == NeckRule() else self.necks
        return self.model_copy(update={"border": value, "necks": necks})

    def least_voxels(self, shape_vox: Sequence[int], spacing_mm: Spacing3) -> int:
        """The fewest voxels that an object has on a grid."""
        voxel_mm3, radius_mm = float(np.prod(spacing_mm)), (self.smallest_mm or 0) / 2
        smallest_mm3 = 4 / 3 * pi * radius_mm**3
        if 1 in shape_vox:
            smallest_mm3 = pi * radius_mm**2 * spacing_mm[shape_vox.index(1)]
        least = max(self.min_volume_mm3, smallest_mm3) / voxel_mm3
        return max(1, int(np.ceil(least - 1e-6)))


class Instance(Record):
    """One object: its number in the map, its class's value, and where it is (z, y, x)."""

    number: int
    value: int
    volume_mm3: float
    centroid_vox: tuple[float, float, float]
    box: Box


Part = Callable[[Mask, Box], Parts | None]  # of an object, in a box of the scan


@dataclass(frozen=True, slots=True)
class _Object:
    """An object under the key it has while the map is being made."""

    key: int
    value: int
    voxels: int
    centroid_vox: tuple[float, float, float]
    box: Box


def label_instances(
    labels: NDArray[np.integer[Any]],
    spacing_mm: Spacing3,
    rule: InstanceRule,
    parting: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.unsignedinteger[Any]], tuple[Instance, ...]]:
    """Number the objects of a label map [z, y, x]: 1 to n, in the smallest unsigned type.

    An object is a component of voxels of one value that touch by face, edge or corner, split at
    its necks if the rule says so, or by a learned `parting` [1 or 3, z, y, x]: in the valleys of a
    depth, or where ways to their middles part, in mm along the axes. Numbers rise
    with the class's value, and within a class fall with size; of equally large ones the first in
    the volume comes first. Objects below the smallest volume become background; splitting makes no
    part below it. So does a border that touches no object. A voxel's volume is the product of the
    spacings, so that the area of an object of a single slice counts as one slice thick.

    Besides labels and result, 4 bytes a voxel are held, and what splitting one object takes.
    """
    assert labels.ndim == 3, labels.shape
    min_voxels = rule.least_voxels(labels.shape, spacing_mm)
    without_border = labels if rule.border is None else np.where(labels == rule.border, 0, labels)
    keys = cc3d.connected_components(
        np.ascontiguousarray(without_border), connectivity=26, out_dtype=np.uint32
    )
    least = min_voxels if rule.border is None else 1  # the border adds to them
    objects = list(_components(keys, without_border, least))
    if parting is not None:
        known_mm = known_spacing_mm(spacing_mm, labels.shape)
        if len(parting) > 1:
            part = _by_flow(parting, known_mm, rule.flows, min_voxels)
        else:
            part = _by_depth(parting[0], known_mm, rule.valleys, min_voxels)
    else:
        part = _by_necks(spacing_mm, rule.necks, min_voxels)
    objects = _split(objects, keys, part, min_voxels)
    if rule.border is not None:
        _spread(keys, labels == rule.border, spacing_mm)
        objects = _measured_again(objects, keys, min_voxels)
    return _told(keys, objects, float(np.prod(spacing_mm)))


def measure_instances(
    numbers: NDArray[np.integer[Any]],
    values: Sequence[int],
    spacing_mm: Spacing3,
    rule: InstanceRule,
) -> tuple[NDArray[np.unsignedinteger[Any]], tuple[Instance, ...], tuple[int, ...]]:
    """Objects that are numbered already [z, y, x], from 1, of these values, as `label_instances`
    numbers them; and what the number of each was."""
    keys = numbers.astype(np.uint32)
    none = ((0.0, 0.0, 0.0), Box(start=(0, 0, 0), stop=(0, 0, 0)))
    there = np.unique(keys[keys > 0]).tolist()
    objects = [_Object(key, values[key - 1], 0, *none) for key in there]
    objects = _measured_again(objects, keys, rule.least_voxels(keys.shape, spacing_mm))
    told = _told(keys, objects, float(np.prod(spacing_mm)))
    return *told, tuple(item.key for item in sorted(objects, key=_rank))


def _rank(item: _Object) -> tuple[int, int, tuple[int, ...], int]:
    return item.value, -item.voxels, item.box.start, item.key


def _told(
    keys: NDArray[np.uint32], objects: Sequence[_Object], voxel_mm3: float
) -> tuple[NDArray[np.unsignedinteger[Any]], tuple[Instance, ...]]:
    """Objects by their rank, and the map of their numbers."""
    objects = sorted(objects, key=_rank)
    return _numbered(keys, objects), tuple(
        Instance(
            number=number,
            value=item.value,
            volume_mm3=item.voxels * voxel_mm3,
            centroid_vox=item.centroid_vox,
            box=item.box,
        )
        for number, item in enumerate(objects, 1)
    )


def _components(
    keys: NDArray[np.uint32], labels: NDArray[np.integer[Any]], min_voxels: int
) -> Iterator[_Object]:
    """The components of at least that many voxels, in the order of their keys."""
    measured = cc3d.statistics(keys, no_slice_conversion=True)
    for key in np.flatnonzero(measured["voxel_counts"] >= min_voxels):
        if key == 0:
            continue
        box = _box(measured["bounding_boxes"][key], (0, 0, 0))
        first = np.argmax(keys[box.slices][0] == key)
        yield _Object(
            key=int(key),
            value=int(labels[box.slices][0].flat[first]),
            voxels=int(measured["voxel_counts"][key]),
            centroid_vox=_point(measured["centroids"][key], (0, 0, 0)),
            box=box,
        )


def _by_necks(spacing_mm: Spacing3, rule: NeckRule | None, min_voxels: int) -> Part:
    if rule is None:
        return lambda mask, box: None
    return lambda mask, box: take_apart(mask, spacing_mm, rule, min_voxels)


def _by_depth(
    depth: NDArray[np.floating[Any]], spacing_mm: Spacing3, rule: ValleyRule, min_voxels: int
) -> Part:
    return lambda mask, box: part_at_valleys(mask, depth[box.slices], spacing_mm, rule, min_voxels)


def _by_flow(
    flow: NDArray[np.floating[Any]], spacing_mm: Spacing3, rule: FlowRule, min_voxels: int
) -> Part:
    def part(mask: Mask, box: Box) -> Parts | None:
        return part_by_flow(mask, flow[:, *box.slices], spacing_mm, rule, min_voxels)

    return part


def _split(
    objects: Sequence[_Object],
    keys: NDArray[np.uint32],
    part_of: Part,
    min_voxels: int,
) -> list[_Object]:
    """The objects, those that come apart as their parts, which get keys of their own in `keys`."""
    last = int(keys.max(initial=0))
    split = []
    for item in objects:
        if item.voxels < max(2 * min_voxels, SPLITTABLE_VOXELS):
            split.append(item)
            continue
        around = _with_margin(item.box, keys.shape)
        region = keys[around.slices]
        parts = part_of(region == item.key, around)
        if parts is None:
            split.append(item)
            continue
        measured = cc3d.statistics(parts, no_slice_conversion=True)
        count = len(measured["voxel_counts"]) - 1
        inside = parts > 0
        region[inside] = parts[inside] + np.uint32(last)
        split += [
            _Object(
                key=last + part,
                value=item.value,
                voxels=int(measured["voxel_counts"][part]),
                centroid_vox=_point(measured["centroids"][part], around.start),
                box=_box(measured["bounding_boxes"][part], around.start),
            )
            for part in range(1, count + 1)
            if measured["voxel_counts"][part] >= min_voxels  # a cut in blocks may fall short of it
        ]
        last += count
    return split


def _spread(keys: NDArray[np.uint32], border: NDArray[np.bool_], spacing_mm: Spacing3) -> None:
    """Give the border to the objects beside it, ring by ring, and to the nearer where two are."""
    steps = [np.array(step) for step in product((-1, 0, 1), repeat=3) if any(step)]
    steps.sort(key=lambda step: float(np.linalg.norm(step * spacing_mm)))
    last = np.array(keys.shape) - 1
    left = np.argwhere(border)  # [voxel, 3]
    while len(left):
        found = np.zeros(len(left), np.uint32)
        for step in steps:
            open_ones = np.flatnonzero(found == 0)
            beside = np.clip(left[open_ones] + step, 0, last)
            found[open_ones] = keys[tuple(beside.T)]
        if not found.any():
            return
        keys[tuple(left.T)] = found
        left = left[found == 0]


def _measured_again(
    objects: Sequence[_Object], keys: NDArray[np.uint32], min_voxels: int
) -> list[_Object]:
    """The objects as they are in `keys` now, those that are large enough."""
    measured = cc3d.statistics(keys, no_slice_conversion=True)
    return [
        replace(
            item,
            voxels=int(measured["voxel_counts"][item.key]),
            centroid_vox=_point(measured["centroids"][item.key], (0, 0, 0)),
            box=_box(measured["bounding_boxes"][item.key], (0, 0, 0)),
        )
        for item in objects
        if measured["voxel_counts"][item.key] >= min_voxels
    ]


def _with_margin(box: Box, shape: Sequence[int]) -> Box:
    """A box with a voxel of background on every side, except where the image ends.

    None is added along an axis on which the box has a single voxel: an object of one slice is
    split by its outline in the slice, not by how thick the slice is.
    """
    margin = [int(size > 1) for size in box.shape]
    return Box(
        start=tuple(max(0, a - m) for a, m in zip(box.start, margin, strict=True)),
        stop=tuple(min(n, b + m) for b, m, n in zip(box.stop, margin, shape, strict=True)),
    )


def _box(bounds: NDArray[Any], origin: Sequence[int]) -> Box:
    """From first and last index of each axis in turn."""
    return Box(
        start=tuple(int(b) + o for b, o in zip(bounds[::2], origin, strict=True)),
        stop=tuple(int(b) + 1 + o for b, o in zip(bounds[1::2], origin, strict=True)),
    )


def _point(centroid: NDArray[Any], origin: Sequence[int]) -> tuple[float, float, float]:
    z, y, x = (float(c) + o for c, o in zip(centroid, origin, strict=True))
    return z, y, x


def _numbered(
    keys: NDArray[np.uint32], objects: Sequence[_Object]
) -> NDArray[np.unsignedinteger[Any]]:
    """The map of numbers from 1, in the order of the objects."""
    dtype = np.min_scalar_type(len(objects))
    table = np.zeros(max(int(keys.max(initial=0)), len(objects)) + 1, dtype)
    for number, item in enumerate(objects, 1):
        table[item.key] = number
    numbers: NDArray[np.unsignedinteger[Any]] = np.empty(keys.shape, dtype)
    for row, keys_of_row in zip(numbers, keys, strict=True):  # an index takes 8 bytes a voxel
        row[...] = table[keys_of_row]
    return numbers
