"""Objects of a 2D image as COCO has them: one file of annotations for each image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.geometry import Box
from autoseg.images.coco_masks import encode_runs
from autoseg.records import save_json

IMAGE_ID = 1  # of the only image of a file


@dataclass(frozen=True, slots=True)
class CocoObject:
    """An object: its number in the map, its class's value, its box (z, y, x), how sure it is."""

    number: int
    value: int
    box: Box
    score: float | None


def write_coco(
    path: Path,
    image: str,
    numbers: NDArray[np.integer[Any]],
    objects: Sequence[CocoObject],
    labels: LabelScheme,
) -> None:
    """Write the objects of a map [1, y, x] as annotations of an image of that name.

    Category ids are label values. Masks are compressed runs, boxes [x, y, width, height], in pixels
    from the first. Raises AutosegError where the map has several slices.
    """
    depth, height, width = numbers.shape
    if depth != 1:
        raise AutosegError(
            f"{image}: has {depth} slices, but COCO is of 2D images. Leave --format coco out."
        )
    named = zip(labels.values[1:], labels.names[1:], strict=True)
    things = [(value, name) for value, name in named if name in labels.things or not labels.things]
    content = {
        "images": [{"id": IMAGE_ID, "file_name": image, "height": height, "width": width}],
        "categories": [{"id": value, "name": name} for value, name in things],
        "annotations": list(_annotations(numbers[0], objects)),
    }
    save_json(content, path)


def _annotations(
    numbers: NDArray[np.integer[Any]], objects: Sequence[CocoObject]
) -> Iterator[dict[str, Any]]:
    for one in objects:
        _, y, x = one.box.start
        _, height, width = one.box.shape
        mask = numbers == one.number
        yield {
            "id": one.number,
            "image_id": IMAGE_ID,
            "category_id": one.value,
            "segmentation": {"size": list(mask.shape), "counts": encode_runs(mask)},
            "area": int(np.count_nonzero(mask)),
            "bbox": [x, y, width, height],
            "iscrowd": 0,
        } | ({} if one.score is None else {"score": one.score})
