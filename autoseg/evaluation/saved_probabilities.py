"""Probabilities that lie beside masks, read one class at a time."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.naming import label_name
from autoseg.errors import AutosegError

FOLDER = "probabilities"  # beside masks, where `predict --save-probabilities` puts them
ENTRY = "probabilities.npy"  # [output, z, y, x], as in nnU-Net's files
BYTES_AT_ONCE = 2**24

Shape = tuple[int, ...]


@dataclass(slots=True)
class SavedProbabilities:
    """The maps of a compressed file, of which only one is held at a time.

    `outputs` are the positions, by the name that a class or region is scored by, of the maps whose
    sum is its probability. They are fastest asked for in the order of the file: one that was passed
    is found again from the file's start.
    """

    path: Path
    outputs: dict[str, tuple[int, ...]]
    _maps: Iterator[NDArray[np.floating[Any]]] = field(default_factory=lambda: iter(()))
    _passed: int = -1  # so that the first one starts

    def of(self, name: str) -> NDArray[np.floating[Any]] | None:
        """The probability [z, y, x] of a class; None of one that no output is of."""
        if name not in self.outputs:
            return None
        first, *others = self.outputs[name]
        probability = self._map(first)
        for output in others:
            probability += self._map(output)
        return probability

    def _map(self, output: int) -> NDArray[np.floating[Any]]:
        if self._passed < 0 or output < self._passed:
            self._maps, self._passed = _maps_in(self.path), 0
        for values in self._maps:
            self._passed += 1
            if self._passed > output:
                return values
        raise AutosegError(_not_of(self.path, f"has {self._passed} maps, not {output + 1}"))


def find_probabilities(
    mask: Path, shape_vox: Shape, labels: LabelScheme
) -> SavedProbabilities | None:
    """The probabilities that were saved with a mask of a shape, in a folder beside it.

    Raises AutosegError for those that cannot be of this mask, or of these labels.
    """
    places = (mask.parent / FOLDER, mask.parent.parent / FOLDER)  # numbered objects lie deeper
    files = [place / f"{label_name(mask)}.npz" for place in places]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return None
    shape = _shape_of(path)
    if shape != (labels.output_count, *shape_vox):
        raise AutosegError(
            _not_of(path, f"holds {shape}, not {(labels.output_count, *shape_vox)} as its mask")
        )
    first = 0 if labels.regions else 1
    names = [region.name for region in labels.regions] or map(str, labels.values[1:])
    return SavedProbabilities(path, {name: (i,) for i, name in enumerate(names, first)})


def _not_of(path: Path, why: str) -> str:
    return f"{path}: {why}. Predict again with --save-probabilities, or remove the file."


def _shape_of(path: Path) -> Shape:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(ENTRY) as entry:
            return _header(entry)[0]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        raise AutosegError(_not_of(path, "holds no probabilities that can be read")) from None


def _header(entry: IO[bytes]) -> tuple[Shape, np.dtype[Any]]:
    version = np.lib.format.read_magic(entry)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(entry)
    return shape, dtype


def _maps_in(path: Path) -> Iterator[NDArray[np.floating[Any]]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(ENTRY) as entry:
            shape, dtype = _header(entry)
            for _ in range(shape[0]):
                values = np.empty(prod(shape[1:]), dtype)
                _fill(values.view(np.uint8), entry)
                yield values.reshape(shape[1:])
    except (zipfile.BadZipFile, EOFError):
        raise AutosegError(_not_of(path, "is damaged")) from None


def _fill(values: NDArray[np.uint8], entry: IO[bytes]) -> None:
    filled = 0
    while filled < len(values):
        part = entry.read(min(BYTES_AT_ONCE, len(values) - filled))
        if not part:
            raise EOFError
        values[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
        filled += len(part)
