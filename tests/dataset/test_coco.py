"""Covers: layouts.coco, coco_results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.coco_results import CocoObject, write_coco
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.dataset.objects import read_objects
from autoseg.dataset.reading import read_case
from autoseg.errors import AutosegError
from autoseg.geometry import Box
from autoseg.images.coco import path_of_map
from autoseg.images.volume import read_labels
from autoseg.pipeline.check import check_dataset
from autoseg.preprocessing.prepare import source_files
from tests.images.test_coco import CATEGORIES, SHAPE, SQUARE, annotation, written

OTHER = [8, 2, 14, 2, 14, 8, 8, 8]  # touches the square


def coco(root: Path, *annotations: Any, folder: str = "", **parts: Any) -> Path:
    """An image of two cells that touch, in a folder, and its annotations."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 99, (*SHAPE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / folder / "a.png")
    drawn = annotations or (annotation(1, [SQUARE]), annotation(2, [OTHER]))
    (root / "annotations").mkdir(exist_ok=True)
    return written(root / "annotations", *drawn, **parts)


@pytest.mark.parametrize("folder", ["", "images", "val", "images/val"])
def test_images_and_objects_are_found_where_coco_puts_them(tmp_path: Path, folder: str) -> None:
    path = coco(tmp_path, folder=folder)
    path.rename(path.with_name("instances_val.json"))
    (tmp_path / "annotations/captions_val.json").write_text(path.name)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, len(dataset.channel_names)) == ("coco", 3)
    assert dataset.labels is not None and dataset.labels.things == ("nucleus", "cell")
    [case] = dataset.cases
    image, label = read_case(case)
    classes = dataset.labels.encode(label.array, (1, 1, 1))
    numbers = read_objects(case, image, classes, dataset.labels)
    assert numbers is not None
    assert [int(numbers[0, 4, x]) for x in (4, 10, 20)] == [1, 2, 0]
    assert [int(label.array[0, 4, x]) for x in (4, 10, 20)] == [2, 2, 0]
    assert {Path(one.path).name for one in source_files(case)} == {"a.png", "instances_val.json"}


def test_a_file_beside_its_images_may_have_any_name(tmp_path: Path) -> None:
    coco(tmp_path).rename(tmp_path / "_annotations.coco.json")
    assert open_dataset(tmp_path).layout == "coco"


def test_crowds_are_not_annotated(tmp_path: Path) -> None:
    coco(tmp_path, annotation(1, [SQUARE], iscrowd=1), annotation(2, [OTHER]))
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None and dataset.labels.ignore == 3
    assert read_case(dataset.cases[0])[1].array[0, 4, 4] == 3


def test_files_of_other_categories_are_refused(tmp_path: Path) -> None:
    path = coco(tmp_path)
    path.rename(path.with_name("instances_a.json"))
    coco(tmp_path, categories=CATEGORIES[:1])
    with pytest.raises(AutosegError, match="have different categories"):
        open_dataset(tmp_path)


def test_images_that_are_not_there_are_named(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "a.png").unlink()
    _, problems = survey_dataset(tmp_path)
    assert "lists images that are not there (1): a.png" in problems[0].what
    assert problems[0].severity == "error"


def test_check_tells_what_is_wrong_with_annotations(tmp_path: Path) -> None:
    out_of_it = [20, 2, 40, 2, 40, 8, 20, 8]
    lost = annotation(4, [SQUARE]) | {"image_id": 5}
    coco(tmp_path, annotation(1, [out_of_it]), annotation(2, []), annotation(3, [SQUARE], 1), lost)
    problems = {one.kind: one for one in check_dataset(tmp_path, None, 1)[0].problems}
    assert problems["objects"].severity == "error"  # of no category
    assert {"unused_label", "empty_object", "stray_contours"} <= problems.keys()


def test_an_image_of_another_size_than_stated_is_told(tmp_path: Path) -> None:
    coco(tmp_path, images=[{"id": 42, "file_name": "a.png", "height": 9, "width": 9}])
    problems = check_dataset(tmp_path, None, 1)[0].problems
    assert "grid_mismatch" in {one.kind for one in problems}


def test_a_change_of_annotations_is_read_anew(tmp_path: Path) -> None:
    path = coco(tmp_path)
    assert open_dataset(tmp_path).labels is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": CATEGORIES[:1]}))
    labels = open_dataset(tmp_path).labels
    assert labels is not None and labels.things == ("cell",)


def test_written_objects_are_read_again_as_they_were(tmp_path: Path) -> None:
    numbers = np.zeros((1, *SHAPE), np.uint8)
    numbers[0, 2:8, 2:9], numbers[0, 5:9, 9:20] = 1, 2
    boxes = [Box(start=(0, 2, 2), stop=(1, 8, 9)), Box(start=(0, 5, 9), stop=(1, 9, 20))]
    objects = [CocoObject(1, 2, boxes[0], 0.75), CocoObject(2, 1, boxes[1], None)]
    scheme = LabelScheme(values=(0, 1, 2), names=("background", "a", "b"), things=("a", "b"))
    path = tmp_path / "instances.json"
    write_coco(path, "a.png", numbers, objects, scheme)
    for kind, expected in (("objects", numbers), ("classes", np.array([0, 2, 1])[numbers])):
        np.testing.assert_array_equal(read_labels(path_of_map(path, 1, kind)).array, expected)
    first, second = json.loads(path.read_text())["annotations"]
    assert (first["bbox"], first["area"], first["score"]) == ([2, 2, 7, 6], 42, 0.75)
    assert "score" not in second
    with pytest.raises(AutosegError, match="COCO is of 2D images"):
        write_coco(path, "a.nii.gz", np.zeros((3, 4, 5), np.uint8), [], scheme)
