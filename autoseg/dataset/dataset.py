"""Datasets: which scans there are, where their files lie, and what the labels mean."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoseg.errors import raise_if_any
from autoseg.records import Record

# Class indices fit into a byte, together with three that are no classes.
MAX_CLASSES = 253
UNDECLARED = 253  # a value that the dataset does not know
OUTSIDE = 254  # outside the body, while labels are resampled
IGNORED = 255  # voxels that nobody annotated

VOXELS_AT_ONCE = 2**20
ERRORS_SHOWN = 20
MAX_LABEL_VALUE = 2**16 - 2

LayoutName = Literal["nnunet_raw", "msd", "plain", "instances", "manifest"]
Severity = Literal["error", "warning", "note"]

# What can be wrong with a dataset. Errors stop planning; `check` reports all of them.
PROBLEMS: dict[str, Severity] = {
    "naming": "error",
    "unused_file": "warning",
    "missing_file": "error",
    "unreadable": "error",
    "not_finite": "error",
    "grid_mismatch": "error",
    "channel_count": "error",
    "fractional_label": "error",
    "undeclared_label": "error",
    "unit": "warning",
    "transforms_disagree": "warning",
    "extreme_spacing": "warning",
    "constant_image": "warning",
    "empty_label": "warning",
    "unused_label": "warning",
    "duplicate": "warning",
    "patient_in_train_and_test": "warning",
    "left_right": "note",
}


class Problem(Record):
    """One thing that is wrong with a dataset: whose, where, what, and how to put it right."""

    kind: str
    case_id: str | None
    file: str | None
    what: str
    fix: str

    @property
    def severity(self) -> Severity:
        return PROBLEMS[self.kind]

    def message(self) -> str:
        """The whole of it in one sentence or two."""
        where = ": ".join(part for part in (self.case_id, self.file) if part)
        return f"{where}: {self.what} {self.fix}" if where else f"{self.what} {self.fix}"


def raise_errors(problems: Iterable[Problem], headline: str) -> None:
    """Raise one AutosegError that lists the problems that are errors; very many are cut short."""
    errors = [p.message() for p in problems if p.severity == "error"]
    if len(errors) > ERRORS_SHOWN:
        headline = f"{headline}: {len(errors)} errors; `autoseg check` lists them all"
    raise_if_any(errors[:ERRORS_SHOWN], headline)


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
    the border where objects touch.
    """

    values: tuple[int, ...] = Field(max_length=MAX_CLASSES)
    names: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    region_order: tuple[int, ...] = ()
    ignore: int | None = None
    instances: bool = False

    @property
    def declared_count(self) -> int:
        """How many labels a `dataset.json` of this scheme lists, background and ignore included."""
        classes = 1 + len(self.regions) if self.regions else len(self.values)
        return classes + (self.ignore is not None)

    @property
    def output_count(self) -> int:
        """How many outputs a network has: one for each region, or for each class."""
        return len(self.regions) or len(self.values)

    def all_names(self) -> tuple[str, ...]:
        """The names of classes, and of regions where there are any."""
        return (*self.names, *(region.name for region in self.regions))

    def region_classes(self) -> tuple[tuple[int, ...], ...]:
        """The class indices of each region; empty without regions."""
        return tuple(
            tuple(self.values.index(value) for value in region.values) for region in self.regions
        )

    def encode(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """File values to class indices (uint8), `IGNORED` where the value is the ignore label.

        Raises ValueError with the values that are not declared.
        """
        if self.instances:
            return instance_classes(labels)
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

    def encode_mask(self, mask: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Class indices of a mask that `decode` made, in which objects have no numbers any more."""
        if self.instances:
            return mask.astype(np.uint8)
        return self.encode(mask)

    def decode(self, classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Class indices to file values, in the smallest unsigned type that holds them all.

        With regions, index 0 is what lies in none of them, and index i what region i painted last.
        """
        values = (self.values[0], *self.region_order) if self.regions else self.values
        table = np.asarray(values, dtype=np.min_scalar_type(max(values)))
        decoded: NDArray[np.integer[Any]] = table[classes]
        return decoded


INSTANCE_SCHEME = LabelScheme(
    values=(0, 1, 2), names=("background", "object", "border"), instances=True
)


def instance_classes(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Object numbers [z, y, x] to 0 background, 1 object, 2 border.

    The border is every voxel of an object that shares a face with another object, so that objects
    that touch can be told apart.
    """
    classes: NDArray[np.uint8] = (labels != 0).astype(np.uint8)
    for axis in range(labels.ndim):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in range(labels.ndim))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in range(labels.ndim))
        touching = (labels[here] != labels[there]) & (labels[here] != 0) & (labels[there] != 0)
        classes[here][touching] = 2
        classes[there][touching] = 2
    return classes


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


@dataclass(frozen=True, slots=True)
class ChannelSource:
    """Where a channel is: a file, and which component of it; None takes all that it holds."""

    path: Path
    component: int | None = 0


@dataclass(frozen=True, slots=True)
class Case:
    """Where one scan's files are; holds no pixels."""

    case_id: str
    channels: tuple[ChannelSource, ...]
    label: Path | None
    patient_id: str

    def files(self) -> tuple[Path, ...]:
        """Its image files, each once, in the order of the channels."""
        return tuple(dict.fromkeys(source.path for source in self.channels))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training cases with their channel names and label scheme.

    `labels` is None where the dataset does not declare them: then every value found is a class.
    `test_cases` are scans that come with the dataset and are never trained on. `folds` are the
    dataset's own, each the case ids to train on and those held out; empty when it brings none.
    """

    root: Path
    layout: LayoutName
    channel_names: tuple[str, ...]
    labels: LabelScheme | None
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
