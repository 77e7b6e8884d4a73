"""Masks of COCO's annotations; runs were made once by pycocotools 2.0.11 from these polygons.

Covers: coco_masks.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.images.coco import objects_beside, path_of_map, read_annotations
from autoseg.images.coco_masks import decode_runs, encode_runs, fill_polygon
from autoseg.images.formats import files_of
from autoseg.images.volume import read_labels

SHAPE = (18, 24)
# fmt: off
OF_PYCOCOTOOLS: dict[str, tuple[list[float], int]] = {
    r"91`02O001O1O0O2O001O001N101O10O2N2N2N1O2Nh1": ([23, 23, 14, 6, -2, 9], 131),
    r"e11?2M3M3N2M3M110?DL3N1O1O0ON3N2M[3": ([9.9, -2.5, -2.3, 30, 18.2, 4, 10.8, 29.1], 117),
    r"^51`02M3N1N3N2MEM;43M010O100OU1": ([27, 25, 9, 13, 19, -2, 15, 5, 26, -2], 182),
    r"`21a01O100O1O101CK95GK:32O01O1O001O11N2O1N2Oc0":
        ([19.1, 25.6, 3.7, 26.4, 25.7, -3.4, 20.1, -4, 13.1, 10.8, 2.9, 7], 78),
    r"a1593O11OII64LL43LN40N091HON120NO23LM44LK64IM852N2M31N0OND0R10C":
        ([23, 7, 1, 20, 1, 20, 4, 7, 23, 13, 13, 4, -4, 28], 104),
    r"b01a01O1O001O1O1O001O1O1O001O1O1O001O1O1O001O1O1": ([0, 0, 24, 0, 24, 18], 216),
    r"j16<0000000l8": ([2.5, 3.5, 7.5, 3.5, 7.5, 9.5, 2.5, 9.5], 30),
    r"W21a00O1O100O100O1O100O01N10001N100O010OL1HO28M7":
        ([-0.4, 19.5, 17.6, 8.8, 23.1, 2.6, 9.3, 23.1, 8.9, 20.3, 16.8, 28, 29.7, 20.6, 23.5, 1.2,
          20.2, 24.8], 89),
}
# fmt: on
SQUARE = [2, 2, 8, 2, 8, 8, 2, 8]
CATEGORIES = [{"id": 7, "name": "cell"}, {"id": 3, "name": "nucleus"}]


def annotation(number: int, segmentation: Any, category: int = 7, **more: Any) -> dict[str, Any]:
    drawn = {"id": number, "image_id": 42, "category_id": category, "segmentation": segmentation}
    return drawn | more


def written(folder: Path, *annotations: dict[str, Any], **parts: Any) -> Path:
    images = [{"id": 42, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}]
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations} | parts
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def maps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Classes and numbers [y, x] of image 42."""
    classes, numbers = (
        read_labels(path_of_map(path, 42, k)).array[0] for k in ("classes", "objects")
    )
    return classes, numbers


@pytest.mark.parametrize("runs", OF_PYCOCOTOOLS)
def test_polygons_and_runs_are_those_of_pycocotools(runs: str) -> None:
    corners, area = OF_PYCOCOTOOLS[runs]
    mask = fill_polygon(corners, SHAPE)
    assert mask.sum() == area
    np.testing.assert_array_equal(decode_runs(runs, SHAPE), mask)
    assert encode_runs(mask) == runs


def test_runs_that_are_not_compressed_go_down_columns() -> None:
    mask = decode_runs([1, 2, 3], (3, 2))
    assert mask.T.tolist() == [[False, True, True], [False, False, False]]
    for empty in (np.zeros((3, 2), bool), np.ones((3, 2), bool)):
        np.testing.assert_array_equal(decode_runs(encode_runs(empty), (3, 2)), empty)


def test_classes_are_categories_by_id_and_crowds_come_last(tmp_path: Path) -> None:
    crowd = {"counts": [0, SHAPE[0] * 12, SHAPE[0] * 12], "size": list(SHAPE)}
    path = written(
        tmp_path,
        annotation(1, crowd, iscrowd=1),
        annotation(2, [SQUARE]),
        annotation(3, [[14, 2, 20, 2, 20, 8, 14, 8]], category=3),
    )
    classes, numbers = maps(path)
    assert [classes[4, 4], classes[4, 16], classes[12, 4], classes[12, 16]] == [2, 1, 3, 0]
    assert [numbers[4, 4], numbers[4, 16], numbers[12, 4]] == [2, 3, 0]
    assert read_annotations(path).classes == ("nucleus", "cell")
    assert files_of(path_of_map(path, 42, "classes")) == (path,)
    assert objects_beside(path_of_map(path, 42, "classes")) == path_of_map(path, 42, "objects")


def test_the_smaller_of_objects_that_overlap_counts_and_all_is_told(tmp_path: Path) -> None:
    small = [3, 3, 6, 3, 6, 6, 3, 6]
    path = written(
        tmp_path, annotation(1, [small]), annotation(2, [SQUARE]), annotation(3, []),
        annotation(4, [[20, 2, 40, 2, 40, 8, 20, 8]]),
    )  # fmt: skip
    _, numbers = maps(path)
    assert [numbers[4, 4], numbers[7, 7]] == [1, 2]
    told = read_labels(path_of_map(path, 42, "classes")).oddities
    assert [odd.kind for odd in told] == ["empty_object", "overlap", "stray_contours"]
    assert ["(3)" in told[0].what, "(2)" in told[1].what, "(4)" in told[2].what] == [True] * 3


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [5], "size": list(SHAPE)}, "its runs are of 5 pixels, not 18 x 24"),
        ({"counts": [5], "size": [5, 1]}, r"its mask is of \(5, 1\) pixels"),
        ([[1, 2, 3, 4]], "a polygon of 4 numbers"),
        ({"size": list(SHAPE)}, "'counts'"),
        ([[1, 2, 1e9, 4, 5, 6]], "a corner that is no place"),
        ([[1, 2, float("nan"), 4, 5, 6]], "a corner that is no place"),
    ],
)
def test_masks_that_cannot_be_drawn_are_refused(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    path = written(tmp_path, annotation(9, segmentation))
    with pytest.raises(AutosegError, match=f"annotation 9 cannot be drawn: .*{message}"):
        read_labels(path_of_map(path, 42, "classes"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": 3}, "must hold the lists images, categories, annotations"),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, "category id 7 is there several times"),
        ({"images": [{"id": "x"}]}, "lacks what COCO's have"),
    ],
)
def test_files_that_are_not_cocos_are_refused(tmp_path: Path, parts: Any, message: str) -> None:
    with pytest.raises(AutosegError, match=message):
        read_annotations(written(tmp_path, **parts))


def test_an_image_of_endless_size_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, images=[{"id": 42, "file_name": "a", "height": 10**9, "width": 9}])
    with pytest.raises(AutosegError, match=r"image 42 cannot be \(1000000000, 9\) pixels"):
        read_labels(path_of_map(path, 42, "classes"))


def test_annotations_of_nothing_that_is_listed_are_told(tmp_path: Path) -> None:
    lost = {"id": 1, "image_id": 5, "category_id": 7, "segmentation": [SQUARE]}
    found = read_annotations(written(tmp_path, lost, annotation(2, [SQUARE], category=1)))
    assert [odd.what for odd in found.oddities] == [
        "has annotation (1) of no image that it lists.",
        "has annotation (2) of no category that it lists.",
    ]
