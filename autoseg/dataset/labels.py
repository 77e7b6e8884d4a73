"""What labels mean: the values in label files, the classes and regions that they stand for."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.images.dicom.codes import Structure
from autoseg.records import Record

# Class indices fit into a byte, together with three that are no classes.
MAX_CLASSES = 253
UNDECLARED = 253  # a value that the dataset does not know
OUTSIDE = 254  # outside the body, while labels are resampled
IGNORED = 255  # voxels that nobody annotated

MAX_LABEL_VALUE = 2**16 - 2
VOXELS_AT_ONCE = 2**20


class Region(Record):
    """A union of label values that is segmented as a whole; regions may overlap."""

    name: str
    values: tuple[int, ...]


class LabelScheme(Record):
    """The classes: values as they are in label files, and names. Index 0 is the background.

    Inside autoseg a class is its index in `values`, so values need not be consecutive. With
    `regions` the network decides each of them on its own, and a mask is painted region by region,
    in their order, each with its value of `region_order`. `ignore` is the value of voxels that
    nobody annotated. With `instances` label files number objects: the classes are the object and
    the border where objects touch, or nearly do. `things` are the names of classes whose objects
    count one by one; `codes` are what DICOM calls some of the classes.
    """

    values: tuple[int, ...] = Field(max_length=MAX_CLASSES)
    names: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    region_order: tuple[int, ...] = ()
    ignore: int | None = None
    instances: bool = False
    things: tuple[str, ...] = ()
    codes: tuple[Structure, ...] = ()

    @property
    def declared_count(self) -> int:
        """How many labels a `dataset.json` of this scheme lists, background and ignore included."""
        classes = 1 + len(self.regions) if self.regions else len(self.values)
        return classes + (self.ignore is not None)

    @property
    def output_count(self) -> int:
        """How many outputs a network has: one for each region, or for each class."""
        return len(self.regions) or len(self.values)

    @property
    def thing_classes(self) -> tuple[int, ...]:
        """The class indices of things; the border of numbered objects is a part of them."""
        if self.instances:
            return tuple(range(1, len(self.values)))
        return tuple(self.names.index(name) for name in self.things)

    def all_names(self) -> tuple[str, ...]:
        """The names of classes, and of regions where there are any."""
        return (*self.names, *(region.name for region in self.regions))

    def region_classes(self) -> tuple[tuple[int, ...], ...]:
        """The class indices of each region; empty without regions."""
        return tuple(
            tuple(self.values.index(value) for value in region.values) for region in self.regions
        )

    def encode(
        self, labels: NDArray[np.integer[Any]], spacing_mm: Sequence[float]
    ) -> NDArray[np.uint8]:
        """File values to class indices (uint8), `IGNORED` where the value is the ignore label.

        Raises ValueError with the values that are not declared.
        """
        if self.instances:
            return instance_classes(labels, spacing_mm)
        return self._indices(labels)

    def _indices(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        table = np.full(MAX_LABEL_VALUE + 2, UNDECLARED, dtype=np.uint8)  # the last: no label
        table[list(self.values)] = np.arange(len(self.values))
        if self.ignore is not None:
            table[self.ignore] = IGNORED
        classes = np.empty(labels.shape, dtype=np.uint8)
        flat, values = classes.reshape(-1), labels.reshape(-1)
        for start in range(0, flat.size, VOXELS_AT_ONCE):  # indices take 8 bytes each
            part = slice(start, start + VOXELS_AT_ONCE)
            flat[part] = table.take(_as_table_index(values[part]))
        if (classes == UNDECLARED).any():
            raise ValueError(sorted({int(v) for v in np.unique(labels[classes == UNDECLARED])}))
        return classes

    def as_mask(
        self, reference: NDArray[np.integer[Any]], spacing_mm: Sequence[float]
    ) -> NDArray[np.integer[Any]]:
        """A reference's values as masks have them: numbered objects are object and border."""
        return instance_classes(reference, spacing_mm) if self.instances else reference

    def encode_mask(self, mask: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Class indices of a mask that `decode` made, in which objects have no numbers any more."""
        if self.instances:
            return mask.astype(np.uint8)
        return self._indices(mask)

    def decode(self, classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Class indices to file values, in the smallest unsigned type that holds them all.

        With regions, index 0 is what lies in none of them, and index i what region i painted last.
        """
        values = (self.values[0], *self.region_order) if self.regions else self.values
        table = np.asarray(values, dtype=np.min_scalar_type(max(values)))
        decoded: NDArray[np.integer[Any]] = table[classes]
        return decoded


BORDER_REACH = 2  # a border of single voxels was not learned: docs/decisions/0018-objects.md
INSTANCE_SCHEME = LabelScheme(
    values=(0, 1, 2),
    names=("background", "object", "border"),
    instances=True,
    things=("object",),
)


def instance_classes(
    labels: NDArray[np.integer[Any]], spacing_mm: Sequence[float]
) -> NDArray[np.uint8]:
    """Object numbers [z, y, x] to 0 background, 1 object, 2 border.

    The border is every voxel of an object beside another one, or so near to it that BORDER_REACH
    of the finest voxels lie between their centres, along the axes: objects that touch, or nearly
    do, can be told apart by it. Of objects that would be all border, it is what shares a face with
    another, and of those that would still be, nothing. The reach is one of the file's own voxels.
    """
    axes = list(zip(spacing_mm, labels.shape, strict=True))
    finest_mm = min((mm for mm, size in axes if size > 1), default=1.0)
    # How thick a single slice is says nothing.
    reach = [max(1, round(BORDER_REACH * finest_mm / mm)) if size > 1 else 1 for mm, size in axes]
    classes = _with_border(labels, _steps_within(reach))
    lost = _without_core(labels, classes)
    if lost.any():
        faces = [step for step in _steps_within([1] * labels.ndim) if sum(map(abs, step)) == 1]
        classes = np.where(lost, _with_border(labels, faces), classes)
        classes[_without_core(labels, classes)] = 1
    return classes


def _steps_within(reach_vox: Sequence[int]) -> list[tuple[int, ...]]:
    """From a voxel to its neighbours, and to what is within a reach along the axes; one of each two
    steps that are opposite."""
    return [
        step
        for step in product(*(range(-far, far + 1) for far in reach_vox))
        if step > (0,) * len(step)
        and (max(map(abs, step)) == 1 or _share(step, reach_vox) <= 1 + 1e-6)
    ]


def _share(step: Sequence[int], reach_vox: Sequence[int]) -> float:
    return sum(abs(s) / far for s, far in zip(step, reach_vox, strict=True))


def _with_border(
    labels: NDArray[np.integer[Any]], steps: Sequence[tuple[int, ...]]
) -> NDArray[np.uint8]:
    """Classes, where what is so many steps from another object is border."""
    classes: NDArray[np.uint8] = (labels != 0).astype(np.uint8)
    for step in steps:
        here = tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)
        there = tuple(slice(max(0, s), s if s < 0 else None) for s in step)
        near = (labels[here] != labels[there]) & (labels[here] != 0) & (labels[there] != 0)
        classes[here][near] = 2
        classes[there][near] = 2
    return classes


def _without_core(
    labels: NDArray[np.integer[Any]], classes: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Voxels of objects that are all border."""
    lost: NDArray[np.bool_] = (classes == 2) & ~np.isin(labels, np.unique(labels[classes == 1]))
    return lost


def _as_table_index(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Label values as unsigned indices; those that no label can have become the last index."""
    if labels.dtype.itemsize <= 2:
        # Negative values become large ones, which are declared no more than they were.
        if labels.dtype.kind == "i":
            labels = labels.astype(np.int16, copy=False).view(np.uint16)
        return labels
    if labels.size and (labels.min() < 0 or labels.max() > MAX_LABEL_VALUE):
        labels = np.where((labels < 0) | (labels > MAX_LABEL_VALUE), MAX_LABEL_VALUE + 1, labels)
    return labels.astype(np.uint16)
