"""The objects of a case: every voxel's number, wherever a dataset keeps it."""

from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.reading import aligned, grid_problems
from autoseg.errors import AutosegError
from autoseg.images.volume import Volume, read_labels

Numbers = NDArray[np.unsignedinteger[Any]]
Classes = NDArray[np.uint8]


def read_objects(
    case: Case, image: Volume, classes: Classes, scheme: LabelScheme
) -> Numbers | None:
    """Object numbers [z, y, x] of a case, in the voxels of its image: 0 where no thing is, else 1
    to n in the smallest of 16 or 32 bits. None where the scheme has no things.

    They are what a file numbers, the label itself or one beside it; else the connected components
    (26 neighbours) of each class of things. `classes` are the label's class indices. Raises
    AutosegError where a file of numbers cannot be read, or lies on another grid.
    """
    if not scheme.things:
        return None
    return objects_of_things(read_numbers(case, image, scheme), classes, scheme)


def objects_of_things(
    numbers: NDArray[np.integer[Any]] | None, classes: Classes, scheme: LabelScheme
) -> Numbers:
    """What `read_objects` gives, of the numbers that a file has, or None."""
    inside = np.isin(classes, scheme.thing_classes)
    if numbers is None:
        return _narrow(cc3d.connected_components(np.where(inside, classes, 0), connectivity=26))
    return _narrow(fastremap.renumber(np.where(inside, numbers, 0), in_place=True)[0])


def read_numbers(case: Case, image: Volume, scheme: LabelScheme) -> NDArray[np.integer[Any]] | None:
    """The numbers [z, y, x] that a file of a case gives its objects, in the voxels of its image.

    None where no file does so. Raises AutosegError as `read_objects` does.
    """
    path = case.objects
    if path is None and (scheme.instances or case.object_classes is not None):
        path = case.label
    if path is None:
        return None
    volume = aligned(read_labels(path), image)
    problems = grid_problems(case, image.grid, {path: volume.grid})
    if problems:
        raise AutosegError(f"{case.case_id}: {path}: {problems[0].what} {problems[0].fix}")
    if volume.array.min(initial=0) < 0:
        raise AutosegError(f"{case.case_id}: {path}: numbers objects below 0. Number them from 1.")
    return volume.array


def _narrow(numbers: NDArray[Any]) -> Numbers:
    return numbers.astype(np.uint16 if numbers.max(initial=0) < 2**16 else np.uint32)
