"""Datasets: which scans there are, where their files lie, and what the labels mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Record

MAX_CLASSES = 255  # with the outside of the body as one more, class indices fit into a byte

UNDECLARED = 255

LayoutName = Literal["nnunet_raw", "msd", "plain"]


class LabelScheme(Record):
    """The classes: values as they are in label files, and names. Index 0 is the background.

    Inside autoseg a class is its index in `values`, so values need not be consecutive.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]

    def encode(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """File values to class indices (uint8). Raises ValueError for an undeclared value."""
        table = np.full(max(self.values) + 2, UNDECLARED, dtype=np.uint8)
        table[list(self.values)] = np.arange(len(self.values))
        index: NDArray[np.signedinteger[Any]] = labels.astype(
            np.int64 if labels.dtype.itemsize == 8 else np.int32
        )
        np.clip(index, -1, len(table) - 1, out=index)  # -1 is the last entry: undeclared
        classes: NDArray[np.uint8] = table.take(index)
        if (classes == UNDECLARED).any():
            raise ValueError(sorted({int(v) for v in np.unique(labels[classes == UNDECLARED])}))
        return classes

    def decode(self, classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Class indices to file values, in the smallest unsigned type that holds them all."""
        table = np.asarray(self.values, dtype=np.min_scalar_type(max(self.values)))
        decoded: NDArray[np.integer[Any]] = table[classes]
        return decoded


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
    """Training cases with their channel names and label scheme."""

    root: Path
    layout: LayoutName
    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[Case, ...]
