"""What people write into dataset.json and beside it, with mistakes.

Covers: layouts.json_files, layouts.tidying, layouts.regions, layouts.folds, layouts.mapping.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.layouts.description import declared_labels, declared_tolerances
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.layouts.tidying import tidy_description
from autoseg.dataset.problems import Problem
from autoseg.errors import AutosegError
from autoseg.images.dicom.codes import CodeTable
from autoseg.pipeline.other_formats import segments
from tests.dataset.made_up import (
    DESCRIPTION,
    cases_of,
    describe,
    found_in,
    raw_dataset,
    said,
    touch,
)


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    raw_dataset(folder, "a")
    (folder / "dataset.json").write_text(text, encoding=encoding)
    return folder


def names_and_values(dataset: Dataset) -> dict[str, int]:
    assert dataset.labels is not None
    return dict(zip(dataset.labels.names, dataset.labels.values, strict=True))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('"a": 1,}', "line 2, column 8: there is a comma too many"),
        ('"a": [1, 2,]}', "line 2, column 12: there is a comma too many"),
        ('"a": 1 // liver\n}', "line 2, column 8: JSON has no comments"),
        ('# liver\n"a": 1}', "line 2, column 1: JSON has no comments"),
        ("'a': 1}", "line 2, column 1: texts stand in straight double quotes"),
        ('"a": True}', "line 2, column 6: write true in place of True"),
        ('"a": 1\n"b": 2}', 'line 3, column 1: a comma is missing before "b": 2'),
        ('"a": 1', "line 2, column 7: the file ends too early"),
        ('"a": 1}}', "line 2, column 8: } stands after the end"),
        ("a: 1}", "line 2, column 1: a key in double quotes is expected, not a: 1"),
    ],
)
def test_mistakes_in_json_are_named_by_line_and_cause(
    tmp_path: Path, line: str, cause: str
) -> None:
    with pytest.raises(AutosegError, match=re.escape(cause)):
        open_dataset(written(tmp_path, "{\n" + line))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_passed_over(tmp_path: Path, encoding: str) -> None:
    assert found_in(written(tmp_path, json.dumps(DESCRIPTION), encoding)) == []


def test_keys_that_are_given_twice_are_refused(tmp_path: Path) -> None:
    text = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "ignore": 2, "ignore": 3}}'
    with pytest.raises(AutosegError, match=r'"ignore" is given 2 times: 2, 3\. Keep'):
        open_dataset(written(tmp_path, text))


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "liver"},
        {"background": "0", "liver": "1"},
        {"background": 0.0, "liver": 1.0},
        ["background", "liver"],
    ],
)
def test_labels_that_are_meant_are_taken_with_a_warning(tmp_path: Path, labels: Any) -> None:
    raw_dataset(tmp_path, "a", labels=labels)
    assert names_and_values(open_dataset(tmp_path)) == {"background": 0, "liver": 1}
    assert "is taken for {'background': 0, 'liver': 1}" in said(tmp_path)["description"]


@pytest.mark.parametrize(
    "channels", [["CT", "PET"], {"CT": 0, "PET": 1}, {"0000": "CT", "01": "PET"}]
)
def test_channels_that_are_meant_are_taken(tmp_path: Path, channels: Any) -> None:
    raw_dataset(tmp_path, "a", channel_names=channels)
    touch(tmp_path, "imagesTr/a_0001.nii.gz")
    assert open_dataset(tmp_path).channel_names == ("CT", "PET")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["liver", "spleen"]}, "but must be a mapping in braces"),
        ({"labels": {"background": 0, "a": {"b": 1}}}, "label 'a' has value {'b': 1}"),
        ({"labels": None}, "labels is missing, for example"),
        ({"channel_names": 1}, "channel_names is '1', but must be a mapping"),
        ({"channel_names": {"0": ["CT"]}}, r"has \['CT'\] where the name of a channel"),
        ({"dataset": ["a"]}, "dataset is .* but must map cases to their files"),
        ({"dataset": {"a": "b", "c": {"images": [1], "label": "d"}}}, "(?s)'a' must.*'c' must"),
        ({"patients": ["a"]}, 'patients must be {"case": "patient", …}'),
    ],
)
def test_descriptions_of_other_types_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AutosegError, match=message):
        open_dataset(raw_dataset(tmp_path, "a", **change))


def test_a_text_in_place_of_the_mapping_is_passed_over(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", dataset="Task04_Hippocampus")
    assert cases_of(tmp_path) == ["a"]
    assert "dataset is the text 'Task04_Hippocampus'" in said(tmp_path)["description"]


def test_keys_that_are_nearly_right_are_named(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", regions_class_orders=[1], file_ending=None)
    assert "Is 'regions_class_order' meant?" in said(tmp_path)["description"]


def test_a_count_of_cases_that_differs_is_said(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", "b", numTraining=9)
    assert "numTraining is 9, but 2 training cases are here" in said(tmp_path)["description"]
    raw_dataset(tmp_path, "a", "b", numTraining="2")
    assert found_in(tmp_path) == []


def test_the_decathlon_may_have_labels_either_way(tmp_path: Path) -> None:
    entry = {"image": "./imagesTr/a_0000.nii.gz", "label": ".\\labelsTr\\a.nii.gz"}
    for labels in ({"background": 0, "liver": 1}, {"0": "background", "1": "liver"}):
        raw_dataset(tmp_path, "a", labels=labels, file_ending=None, training=[entry])
        dataset = open_dataset(tmp_path)
        assert (dataset.layout, names_and_values(dataset)["liver"]) == ("msd", 1)
        assert found_in(tmp_path) == []


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"whole": [1, 2], "core": 2}, [2, 1], "label 2 is written as 1, so it is no longer core"),
        ({"core": 2, "whole": [1, 2]}, [2, 1], "label 2 is written as 1, so it is no longer core"),
        ({"whole": [1, 2, 3], "core": [2, 3], "top": 3}, [1, 3, 3], "so it becomes top"),
    ],
)
def test_an_order_that_loses_regions_is_refused_with_one_that_does_not(
    tmp_path: Path, labels: dict[str, Any], order: list[int], message: str
) -> None:
    raw_dataset(tmp_path, "a", labels={"background": 0} | labels, regions_class_order=order)
    (problem,) = found_in(tmp_path)
    assert problem.severity == "error" and message in problem.what
    found = re.search(r"loses nothing: (.*)\.$", problem.fix)
    assert found
    describe(tmp_path, **json.loads("{" + found[1] + "}"))
    assert found_in(tmp_path) == []


def test_regions_that_no_order_keeps_apart_are_a_warning(tmp_path: Path) -> None:
    labels = {"background": 0, "a": [1, 2], "b": [2, 3]}
    raw_dataset(tmp_path, "a", labels=labels, regions_class_order=[1, 3])
    assert "label 2 is written as 3, so it is no longer a" in said(tmp_path)["region_overlap"]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([{"train": [], "val": ["a"]}], "fold 0: there is no case to train on"),
        ([{"train": ["a", "b"], "val": []}], "fold 0: no case is held out"),
        ([{"train": ["a", "a"], "val": ["b"]}], "fold 0: a is listed more than once in train"),
        ([{"train": ["a", "b"], "val": ["b"]}], "fold 0: b is both trained on and held out"),
        (
            [{"train": ["a.nii.gz"], "val": ["b"]}],
            "a.nii.gz is in its folds, but not in the dataset",
        ),
        ({"train": ["a"], "val": ["b"]}, "must be a list of"),
        ([{"training": ["a"], "val": ["b"]}], "fold 0 must be .* it has training, val"),
        ([{"train": [1], "val": ["b"]}], "fold 0 must list the names of cases"),
        ([], "holds no fold"),
    ],
)
def test_folds_that_cannot_train_are_refused(tmp_path: Path, folds: Any, message: str) -> None:
    raw_dataset(tmp_path, "a", "b")
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(AutosegError, match=message):
        open_dataset(tmp_path)
    assert [problem.kind for problem in found_in(tmp_path)] == ["folds"]


def test_folds_of_incomplete_cases_are_no_mistake_of_the_folds(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", "b", "c")
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()
    folds = [{"train": ["a", "b"], "val": ["c"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert [problem.kind for problem in found_in(tmp_path)] == ["missing_file"]


@pytest.mark.parametrize("stated", [5, {"liver": "5"}, {"liver": 0}, {"liver": True}])
def test_tolerances_are_lengths_by_name(stated: object) -> None:
    with pytest.raises(AutosegError, match=r"tolerances_mm is .* must be a mapping of labels"):
        declared_tolerances({"tolerances_mm": stated}, Path("dataset.json"))
    good = {"tolerances_mm": {"liver": 5, "kidney": 2.5}}
    assert declared_tolerances(good, Path("dataset.json")) == {"liver": 5, "kidney": 2.5}
    assert declared_tolerances({}, Path("dataset.json")) == {}


def test_what_dicom_calls_classes_may_be_stated() -> None:
    stated = {"names": ["mets"], "category": ["1", "SCT", "a"], "type": ["2", "SCT", "b"]}
    description = {"labels": {"background": 0, "mets": 1}, "label_codes": [stated]}
    labels = declared_labels(description, Path("dataset.json"))
    (segment,) = segments(labels)
    assert segment.codes.type == ("2", "SCT", "b")
    first = CodeTable(structure=(labels.codes[0].model_copy(update={"type": ("3", "SCT", "c")}),))
    assert segments(labels, first)[0].codes.type.value == "3"
    with pytest.raises(AutosegError, match=r"label_codes: structure\.0\.type: Field required"):
        declared_labels(description | {"label_codes": [{"names": ["mets"]}]}, Path("d.json"))


def test_a_misspelt_tolerance_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"tolerance_mm": {"liver": 5}, "tolerances": 1}')
    problems: list[Problem] = []
    tidy_description(tmp_path / "dataset.json", problems)
    assert [problem.fix for problem in problems] == ["Is 'tolerances_mm' meant?"] * 2
