"""COCO's annotations: of each 2D image a map of classes, and one that numbers its objects.

`instances.json#42.classes` is the path of the first of image 42, `instances.json#42.objects` of the
second. The value of a class is its place among the categories by id, from 1; crowds, in which
nobody told objects apart, have the next value after the last class.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.geometry import Grid
from autoseg.images.coco_masks import Plane, Shape2, decode_runs, fill_polygon
from autoseg.images.raw import Format, Oddity, RawImage, nifti_header_of

MAP_OF_IMAGE = re.compile(r"(.+\.json)#(\d+)\.(classes|objects)")
BEYOND_PIXELS = 1.0  # by which corners may lie outside: on the last pixel's edge, or rounded
LOST_SHARE = 0.1  # of an object that others may cover without a word
MOST_PIXELS = 2**30
SHOWN = 5
PARTS = ("images", "categories", "annotations")

Numbers = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image that a file of annotations lists."""

    number: int
    file_name: str
    shape: Shape2  # y, x


@dataclass(frozen=True, slots=True)
class Drawn:
    """An annotation: its class's value, and its mask as runs or polygons, not yet looked at."""

    number: int
    value: int
    segmentation: Any
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class Annotations:
    """A file's images, the names of its classes in the order of their ids, and what is drawn on
    each image; `oddities` are of annotations that belong to nothing."""

    images: tuple[CocoImage, ...]
    classes: tuple[str, ...]
    drawn: Mapping[int, Sequence[Drawn]]
    oddities: tuple[Oddity, ...]

    @property
    def has_crowds(self) -> bool:
        return any(one.is_crowd for drawn in self.drawn.values() for one in drawn)

    @property
    def crowd_value(self) -> int:
        return len(self.classes) + 1


@dataclass(frozen=True, slots=True)
class Painted:
    """What is drawn on an image as one map: 1 + the index of the annotation on top, else 0."""

    indices: Numbers  # [y, x]
    drawn: tuple[Drawn, ...]
    oddities: tuple[Oddity, ...]


def path_of_map(annotations: Path, image: int, kind: str) -> Path:
    """The path of an image's map of `classes` or `objects`."""
    return annotations.with_name(f"{annotations.name}#{image}.{kind}")


def objects_beside(path: Path) -> Path | None:
    """The map of objects beside one of classes; None of a path that is of no such map."""
    match = MAP_OF_IMAGE.fullmatch(path.name)
    return path_of_map(path.with_name(match[1]), int(match[2]), "objects") if match else None


def read_annotations(path: Path) -> Annotations:
    """A file of annotations, kept while it does not change.

    Raises AutosegError where it is none of COCO's, or says a thing twice.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise AutosegError(f"{path}: cannot be opened ({error.strerror}).") from None
    return _parsed(path, status.st_size, status.st_mtime_ns)


def read_map(path: Path) -> RawImage:
    """The map [1, 1, y, x] of classes or objects of one image.

    Where objects overlap the smaller one counts, and any before a crowd. Raises AutosegError where
    a mask cannot be drawn.
    """
    match = MAP_OF_IMAGE.fullmatch(path.name)
    assert match is not None, path
    file = path.with_name(match[1])
    annotations = read_annotations(file)
    painted = _painted(file, int(match[2]), annotations)
    is_thing = np.array([False, *(not one.is_crowd for one in painted.drawn)])
    if match[3] == "objects":
        values = np.where(is_thing, np.arange(len(is_thing)), 0).astype(np.uint32)
    else:
        of_crowd = annotations.crowd_value
        stored = [0, *(of_crowd if one.is_crowd else one.value for one in painted.drawn)]
        values = np.array(stored, np.uint16)
    array = values[painted.indices][None, None]
    return RawImage(
        array,
        Grid((1, *painted.indices.shape), np.eye(4)),
        nifti_header_of(np.eye(4), axes=2),
        oddities=painted.oddities,
    )


@lru_cache(maxsize=2)
def _parsed(path: Path, size_bytes: int, modified_ns: int) -> Annotations:
    images, categories, annotations = _lists(path)
    try:
        listed = tuple(
            CocoImage(int(i["id"]), str(i["file_name"]), (int(i["height"]), int(i["width"])))
            for i in images
        )
        classes = {int(one["id"]): str(one["name"]) for one in categories}
        _refuse_twice(path, categories, listed)
        values = {number: value for value, number in enumerate(sorted(classes), 1)}
        drawn, oddities = _by_image(annotations, {one.number for one in listed}, values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AutosegError(
            f"{path}: an image, category or annotation lacks what COCO's have, or has another type "
            f"({type(error).__name__}: {error}). Ids are whole numbers."
        ) from None
    return Annotations(listed, tuple(classes[n] for n in sorted(classes)), drawn, oddities)


def _lists(path: Path) -> list[list[Any]]:
    """The images, categories and annotations. Raises AutosegError where a file has none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AutosegError(f"{path}: cannot be read as JSON ({error}). Export it again.") from None
    found = [content.get(part) if isinstance(content, dict) else None for part in PARTS]
    lists = [part for part in found if isinstance(part, list)]
    if len(lists) < len(PARTS):
        raise AutosegError(f"{path}: must hold the lists {', '.join(PARTS)}, as COCO has them.")
    return lists


def _refuse_twice(path: Path, categories: Sequence[Any], images: Sequence[CocoImage]) -> None:
    """Raises AutosegError for ids and names that are not unique."""
    for what, values in (
        ("category id", [one["id"] for one in categories]),
        ("category name", [one["name"] for one in categories]),
        ("image id", [one.number for one in images]),
    ):
        twice = [str(value) for value, count in Counter(values).items() if count > 1]
        if twice:
            raise AutosegError(f"{path}: {what} {twice[0]} is there several times. Keep one.")


def _by_image(
    annotations: Sequence[Any], images: set[int], values: Mapping[int, int]
) -> tuple[dict[int, list[Drawn]], tuple[Oddity, ...]]:
    """Annotations by image id, and those of images or categories that there are not."""
    drawn: dict[int, list[Drawn]] = {}
    without: dict[str, list[int]] = {"image": [], "category": []}
    for index, one in enumerate(annotations):
        number, image, category = int(one.get("id", index)), one["image_id"], one["category_id"]
        if image not in images:
            without["image"].append(number)
        elif category not in values:
            without["category"].append(number)
        else:
            is_crowd = bool(one.get("iscrowd", 0))
            mask = one.get("segmentation")
            drawn.setdefault(image, []).append(Drawn(number, values[category], mask, is_crowd))
    kinds = {"image": "unused_label", "category": "objects"}
    fix = "Remove them, or list what they are of."
    return drawn, tuple(
        Oddity(kinds[what], f"has {_counted(numbers)} of no {what} that it lists.", fix)
        for what, numbers in without.items()
        if numbers
    )


def _painted(file: Path, number: int, annotations: Annotations) -> Painted:
    image = next((one for one in annotations.images if one.number == number), None)
    if image is None:
        raise AutosegError(f"{file}: lists no image {number}.")
    if not 0 < image.shape[0] * image.shape[1] <= MOST_PIXELS:
        raise AutosegError(f"{file}: image {number} cannot be {image.shape} pixels (y, x) large.")
    drawn = tuple(annotations.drawn.get(number, ()))
    parts = [_part(_mask(file, one, image.shape)) for one in drawn]
    areas = np.array([np.count_nonzero(mask) for _, mask in parts], np.int64)
    crowds = np.array([one.is_crowd for one in drawn], bool)
    indices = np.zeros(image.shape, np.uint32)
    for index in np.lexsort((-areas, ~crowds)):
        box, mask = parts[index]
        indices[box][mask] = index + 1
    left = np.bincount(indices.reshape(-1), minlength=len(drawn) + 1)[1:]
    covered = ~crowds & (areas - left > LOST_SHARE * areas)
    beyond = np.array([_is_beyond(one, image.shape) for one in drawn], bool)
    told = _told(drawn, {"empty": areas == 0, "covered": covered, "beyond": beyond & (areas > 0)})
    return Painted(indices, drawn, tuple(told))


def _part(mask: Plane) -> tuple[tuple[slice, slice], Plane]:
    """The box that a mask is in, and the mask there: of many objects, little is kept."""
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    y, x = (slice(int(s[0]), int(s[-1]) + 1) if len(s) else slice(0, 0) for s in spans)
    return (y, x), mask[y, x].copy()


def _mask(file: Path, one: Drawn, shape: Shape2) -> Plane:
    """An annotation's pixels; without a mask, or with a box alone, none."""
    mask = np.zeros(shape, bool)
    parts = one.segmentation
    try:
        if isinstance(parts, Mapping):
            size = tuple(int(length) for length in parts["size"])
            if size != shape:
                raise ValueError(f"its mask is of {size} pixels (y, x), its image of {shape}")
            return decode_runs(parts["counts"], shape)
        for polygon in parts or ():
            mask |= fill_polygon(polygon, shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise AutosegError(
            f"{file}: annotation {one.number} cannot be drawn: {error}. Masks are polygons "
            "[x, y, x, y, …], or runs with counts and size."
        ) from None
    return mask


def _is_beyond(one: Drawn, shape: Shape2) -> bool:
    """Whether polygons have corners outside of the image."""
    if isinstance(one.segmentation, Mapping) or not one.segmentation:
        return False
    corners = np.concatenate([np.reshape(part, (-1, 2)) for part in one.segmentation])
    limits = np.array(shape[::-1]) + BEYOND_PIXELS
    return bool((corners < -BEYOND_PIXELS).any() or (corners > limits).any())


def _told(drawn: Sequence[Drawn], which: Mapping[str, NDArray[np.bool_]]) -> Iterator[Oddity]:
    kinds = {
        "empty": ("empty_object", "without a single pixel; they are left out.", "Remove them."),
        "covered": (
            "overlap",
            "that others cover by more than a tenth; where two overlap, the smaller one counts.",
            "Draw each pixel as one object's, if this is wrong.",
        ),
        "beyond": ("stray_contours", "that reach out of the image; they are cut off there.", ""),
    }
    for what, (kind, text, fix) in kinds.items():
        numbers = [one.number for one, odd in zip(drawn, which[what], strict=True) if odd]
        if numbers:
            yield Oddity(kind, f"has {_counted(numbers)} {text}", fix)


def _counted(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN])) + (", …" if len(numbers) > SHOWN else "")
    noun = "annotation" if len(numbers) == 1 else f"{len(numbers)} annotations"
    return f"{noun} ({shown})"


COCO = Format(
    "COCO",
    endings=(),
    read=read_map,
    count_channels=lambda path: 1,
    recognise=lambda path: MAP_OF_IMAGE.fullmatch(path.name) is not None,
    file_of=lambda path: path.with_name(path.name.rsplit("#", 1)[0]),
)
