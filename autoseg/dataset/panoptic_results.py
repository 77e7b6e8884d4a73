"""One map of everything in a scan, objects and what is not counted, with COCO's panoptic table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.images.volume import Volume, write_labels
from autoseg.records import save_json


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
    arXiv:1801.00868). In the table `category_id` is the label's value, and `area` counts voxels.
    """
    segments = numbers.astype(np.uint32)
    table = [_row(one.number, one.value, True, one.score) for one in things]
    for value in _stuff(labels):
        here = mask.array == value
        if here.any():
            table.append(_row(len(table) + 1, value, False))
            segments[here] = len(table)
    areas = np.bincount(segments.reshape(-1), minlength=len(table) + 1)
    content = {
        "categories": [
            {"id": value, "name": name, "isthing": value not in _stuff(labels)}
            for value, name in _categories(labels).items()
        ],
        "segments_info": [row | {"area": int(areas[row["id"]])} for row in table],
    }
    write_labels(path, replace(mask, array=segments))
    save_json(content, path.with_name(path.name.removesuffix(".nii.gz") + ".json"))


def _row(number: int, value: int, is_thing: bool, score: float | None = None) -> dict[str, Any]:
    row = {"id": number, "category_id": value, "isthing": is_thing}
    return row if score is None else row | {"score": score}


def _categories(labels: LabelScheme) -> dict[int, str]:
    """What values of a mask are called; the border of numbered objects is a part of them."""
    if labels.regions:
        return dict(zip(labels.region_order, (r.name for r in labels.regions), strict=True))
    named = dict(zip(labels.values[1:], labels.names[1:], strict=True))
    return {v: n for v, n in named.items() if not labels.instances or n in labels.things}


def _stuff(labels: LabelScheme) -> list[int]:
    """Values of classes whose objects do not count, where those of others do."""
    if not labels.things:
        return []
    return [value for value, name in _categories(labels).items() if name not in labels.things]
