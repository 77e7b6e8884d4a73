"""Objects that are numbered beside masks and references: of what class each is, and how sure.

`predict` writes `instances/NAME.nii.gz` beside a mask, and a `.json` of what each object is. A
dataset has numbers in `instances/` beside `labels/`, in the label itself with a file of classes, or
in COCO's annotations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.layouts.json_files import read_written_json
from autoseg.dataset.layouts.naming import label_name, stem
from autoseg.dataset.object_classes import classes_beside
from autoseg.errors import AutosegError
from autoseg.images.coco import objects_beside
from autoseg.images.formats import file_ending
from autoseg.images.volume import WRITTEN_ENDING
from autoseg.work_folder import INSTANCES

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ToldObjects:
    """What `predict` tells of a map of numbers: label values by number, and scores, if known."""

    values: Mapping[int, int]
    scores: Mapping[int, float] | None

    def classes(self, numbers: Numbers) -> NDArray[np.uint16]:
        """Label values of numbered objects [z, y, x]; 0 where nothing is told of a number."""
        table = np.zeros(int(numbers.max(initial=0)) + 1, np.uint16)
        for number, value in self.values.items():
            if number < len(table):
                table[number] = value
        return table[numbers]

    def score_table(self, numbers: Numbers) -> NDArray[np.float64] | None:
        """How sure each number of a map is, from 0 on; None where that is not known."""
        if self.scores is None:
            return None
        count = int(numbers.max(initial=0)) + 1
        return np.array([self.scores.get(number, 0.0) for number in range(count)])


def numbers_of_mask(mask: Path) -> Path | None:
    """The map of numbers that `predict` wrote with a mask, or that the mask itself is."""
    path = mask
    if mask.parent.name != INSTANCES:
        path = mask.parent / INSTANCES / f"{label_name(mask)}{WRITTEN_ENDING}"
    return path if path.is_file() and _description(path).is_file() else None


def numbers_of_reference(reference: Path) -> Path | None:
    """The map of numbers of a label, or the label itself where it numbers objects of classes."""
    if (of_coco := objects_beside(reference)) is not None:
        return of_coco
    if classes_beside(reference) is not None:
        return reference
    if reference.parent.name != "labels":
        return None
    name = label_name(reference)
    found = (reference.parent.parent / INSTANCES).glob(f"{escape(name)}.*")
    return next((path for path in sorted(found) if file_ending(path)), None)


def told_objects(numbers: Path) -> ToldObjects:
    """What is told of a map of numbers. Raises AutosegError where that cannot be used."""
    path = _description(numbers)
    content = read_written_json(path)
    try:
        values = {int(one["number"]): int(one["value"]) for one in content}
        scores = {int(one["number"]): one.get("score") for one in content}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AutosegError(
            f"{path}: must be a list of objects, each with a number and a value, as `autoseg "
            "predict` writes it. Predict again, or remove the file."
        ) from None
    known = {number: float(score) for number, score in scores.items() if score is not None}
    return ToldObjects(values, known if len(known) == len(scores) else None)


def _description(numbers: Path) -> Path:
    return numbers.with_name(f"{stem(numbers)}.json")
