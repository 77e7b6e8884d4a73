"""Covers: object_classes, layouts.nndetection."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.dataset.objects import read_objects
from autoseg.dataset.reading import read_case, read_label_map
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_pairs
from autoseg.inspection.repair import write_repaired
from autoseg.preprocessing.prepare import source_files

SHAPE = (6, 8, 9)


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), path)


def scan() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def numbers() -> np.ndarray:
    """Two objects that touch, 3 and 7, and 300 apart from them."""
    made = np.zeros(SHAPE, np.uint16)
    made[1:3, 1:3, 1:4], made[1:3, 1:3, 4:6], made[5, 5:7, 6:8] = 3, 7, 300
    return made


def nndetection(root: Path, classes: dict[str, Any]) -> Path:
    save(root / "raw_splitted/imagesTr/a_0000.nii.gz", scan())
    save(root / "raw_splitted/labelsTr/a.nii.gz", numbers())
    (root / "raw_splitted/labelsTr/a.json").write_text(json.dumps({"instances": classes}))
    described = {"labels": {"0": "nodule", "1": "mass"}, "modalities": {"0": "MRI"}}
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def beside_labels(root: Path, **description: Any) -> Path:
    save(root / "images/a.nii.gz", scan())
    save(root / "labels/a.nii.gz", (numbers() > 0) + (numbers() == 300).astype(np.uint8))
    labels = {"background": 0, "cell": 1, "tissue": 2}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, **description}))
    return root


def test_references_that_number_objects_are_scored_by_their_classes(tmp_path: Path) -> None:
    label = nndetection(tmp_path, {"3": 0, "7": 1, "300": 1}) / "raw_splitted/labelsTr/a.nii.gz"
    mask = np.isin(numbers(), (3,)) + 2 * np.isin(numbers(), (7, 300))
    save(tmp_path / "masks/a.nii.gz", mask.astype(np.uint8))
    scheme = open_dataset(tmp_path).labels
    found = evaluate_pairs({"a": (tmp_path / "masks/a.nii.gz", label)}, scheme, 1)
    assert {key: scores["dice"] for key, scores in found.cases["a"].items()} == {"1": 1, "2": 1}


def test_a_sidecar_of_something_else_tells_no_classes(tmp_path: Path) -> None:
    label = beside_labels(tmp_path) / "labels/a.nii.gz"
    for text in ('{"Manual": true}', "no JSON"):
        label.with_name("a.json").write_text(text)
        assert read_label_map(label).array.max() == 2


def test_a_corrected_copy_keeps_what_things_are_or_is_refused(tmp_path: Path) -> None:
    codes = [{"names": ["cell"], "category": ["1", "SCT", "a"], "type": ["2", "SCT", "b"]}]
    stated = {"things": ["cell"], "label_codes": codes}
    plain = open_dataset(beside_labels(tmp_path / "plain", **stated))
    write_repaired(plain, [], tmp_path / "copy", 1)
    copied = open_dataset(tmp_path / "copy").labels
    assert copied is not None and copied.things == ("cell",)
    assert [one.names for one in copied.codes] == [("cell",)]
    numbered = open_dataset(nndetection(tmp_path / "numbered", {"3": 0, "7": 1, "300": 1}))
    with pytest.raises(AutosegError, match="numbered in files of their own"):
        write_repaired(numbered, [], tmp_path / "other", 1)


def test_nndetection_tells_classes_beside_numbers(tmp_path: Path) -> None:
    dataset = open_dataset(nndetection(tmp_path, {"3": 0, "7": 1, "300": 1}))
    assert dataset.labels is not None and dataset.labels.things == ("nodule", "mass")
    image, label = read_case(dataset.cases[0])
    assert label.array[1, 1, 1:6].tolist() == [1, 1, 1, 2, 2]
    found = read_objects(dataset.cases[0], image, label.array.astype(np.uint8), dataset.labels)
    assert found is not None and found.dtype == np.uint16
    assert [found[1, 1, 1], found[1, 1, 4], found[5, 5, 6]] == [1, 2, 3]
    names = [Path(file.path).name for file in source_files(dataset.cases[0])]
    assert names == ["a_0000.nii.gz", "a.nii.gz", "a.json"]  # a change of classes is noticed


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"3": 0}, "tells no class of 7, 300"),
        ({"3": -1}, "class -1 is not one of 0"),
        ({"0": 1}, "Objects are numbered from 1"),
    ],
)
def test_classes_that_cannot_be_are_named(
    tmp_path: Path, classes: dict[str, Any], message: str
) -> None:
    dataset = open_dataset(nndetection(tmp_path, classes))
    with pytest.raises(AutosegError, match=message):
        read_case(dataset.cases[0])


def test_a_missing_file_of_classes_is_a_problem(tmp_path: Path) -> None:
    nndetection(tmp_path, {"3": 0, "7": 1, "300": 1})
    (tmp_path / "raw_splitted/labelsTr/a.json").unlink()
    _, problems = survey_dataset(tmp_path)
    assert any("no file of classes a.json" in problem.what for problem in problems)


def test_components_of_things_are_objects(tmp_path: Path) -> None:
    dataset = open_dataset(beside_labels(tmp_path, things=["cell"]))
    assert dataset.labels is not None
    image, label = read_case(dataset.cases[0])
    classes = dataset.labels.encode(label.array, (1, 1, 1))
    found = read_objects(dataset.cases[0], image, classes, dataset.labels)
    assert found is not None
    assert [found[1, 1, 1], found[1, 1, 4], found[5, 5, 6]] == [1, 1, 0]


def test_instances_beside_labels_number_their_objects(tmp_path: Path) -> None:
    save(beside_labels(tmp_path) / "instances/a.nii.gz", numbers())
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None and dataset.labels.things == ("cell", "tissue")
    image, label = read_case(dataset.cases[0])
    classes = dataset.labels.encode(label.array, (1, 1, 1))
    found = read_objects(dataset.cases[0], image, classes, dataset.labels)
    assert found is not None
    assert [found[1, 1, 1], found[1, 1, 4], found[5, 5, 6]] == [1, 2, 3]


def test_things_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match=r"things are classes.*nucleus is none"):
        open_dataset(beside_labels(tmp_path, things=["nucleus"]))
