"""One map of everything in a scan, objects and what is not counted, with COCO's panoptic table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.naming import stem
from autoseg.images.volume import Volume, write_labels
from autoseg.records import save_json

IMAGE_ID = 1  # of the only image of a file


@dataclass(frozen=True, slots=True)
class Thing:
    """An object: its number in the map of objects, its class's value, how sure it is."""

    number: int
    value: int
    score: float | None


def write_panoptic(
    path: Path,
    mask: Volume,
    numbers: NDArray[np.integer[Any]],
    things: Sequence[Thing],
    labels: LabelScheme,
) -> None:
    """Write which segment each voxel of a mask [z, y, x] belongs to, and beside it which is what.

    Objects keep their numbers; each class of stuff has the next one after them. 0 is background,
    and what is of a class of things, but of no object that counts (Kirillov et al. 2019,
    arXiv:1801.00868). The table has COCO's keys, without boxes; `category_id`
    is the label's value, `area` counts voxels, and `score` is the object's.
    """
    segments = numbers.astype(np.uint32)
    categories = _categories(labels)
    table = [_row(one.number, one.value, one.score) for one in things]
    for value, name in categories.items():
        if name not in labels.things and (here := mask.array == value).any():
            table.append(_row(len(table) + 1, value, None))
            segments[here] = len(table)
    areas = cc3d.statistics(segments)["voxel_counts"]
    annotation = {
        "image_id": IMAGE_ID,
        "file_name": path.name,
        "segments_info": [row | {"area": int(areas[row["id"]])} for row in table],
    }
    content = {
        "images": [{"id": IMAGE_ID, "file_name": path.name}],
        "categories": [
            {"id": value, "name": name, "isthing": int(name in labels.things)}
            for value, name in categories.items()
        ],
        "annotations": [annotation],
    }
    write_labels(path, replace(mask, array=segments))
    save_json(content, path.with_name(f"{stem(path)}.json"))


def _row(number: int, value: int, score: float | None) -> dict[str, Any]:
    row = {"id": number, "category_id": value, "iscrowd": 0}
    return row if score is None else row | {"score": score}


def _categories(labels: LabelScheme) -> dict[int, str]:
    """What values of a mask are called; the border of numbered objects is a part of them."""
    named = dict(zip(labels.values[1:], labels.names[1:], strict=True))
    return {v: n for v, n in named.items() if not labels.instances or n in labels.things}
