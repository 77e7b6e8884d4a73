"""The classes of numbered objects, as nnDetection tells them beside a map of numbers."""

from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import MAX_CLASSES
from autoseg.dataset.layouts.json_files import read_written_json
from autoseg.dataset.layouts.naming import stem
from autoseg.errors import AutosegError

INSTANCES = "instances"


def classes_beside(label: Path) -> Path | None:
    """The file of classes of a map of numbered objects: a JSON of its name, if that tells any."""
    path = label.with_name(f"{stem(label)}.json")
    if not path.is_file():
        return None
    try:
        content = read_written_json(path)
    except AutosegError:  # of something else, such as a scanner's own remarks
        return None
    return path if isinstance(content, dict) and INSTANCES in content else None


def classes_of_objects(path: Path) -> dict[int, int]:
    """The class of each object number, from 0, of a file `{"instances": {"1": 0}}`.

    Raises AutosegError where it holds anything else.
    """
    content = read_written_json(path)
    stated = content.get(INSTANCES) if isinstance(content, dict) else None
    if not isinstance(stated, dict):
        raise AutosegError(
            f'{path}: must hold objects and classes, as {{"instances": {{"1": 0}}}}.'
        )
    classes = {}
    for number, index in stated.items():
        is_class = isinstance(index, int) and not isinstance(index, bool)
        if not (str(number).isdecimal() and int(number) > 0 and is_class):
            raise AutosegError(
                f"{path}: has class {index!r} for object {number!r}. Objects are numbered from 1, "
                "and classes from 0."
            )
        if not 0 <= index < MAX_CLASSES - 1:
            raise AutosegError(f"{path}: class {index} is not one of 0 to {MAX_CLASSES - 2}.")
        classes[int(number)] = index
    return classes


def values_of_objects(numbers: NDArray[np.integer[Any]], path: Path) -> NDArray[np.uint8]:
    """Label values of numbered objects [z, y, x]: 0 outside, and 1 + the class that a file tells.

    Raises AutosegError that names the numbers of which it tells none.
    """
    classes = {0: 0} | {number: 1 + index for number, index in classes_of_objects(path).items()}
    found = [int(number) for number in fastremap.unique(numbers)]
    unknown = [str(number) for number in found if number not in classes]
    if unknown:
        shown = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        raise AutosegError(f"{path}: tells no class of {shown}, which the map has. Add them.")
    values = np.array([classes[number] for number in found], np.uint8)
    return values[np.searchsorted(found, numbers)]
