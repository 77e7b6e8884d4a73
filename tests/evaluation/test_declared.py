import json
from pathlib import Path

import pytest

from autoseg.errors import AutosegError
from autoseg.evaluation.declared import find_labels, read_labels_of
from autoseg.evaluation.evaluate import evaluate_folders
from autoseg.pipeline.plan import PlanJob, plan_dataset
from tests.evaluation.test_evaluate import save

LABELS = {"background": 0, "liver": 1}


@pytest.fixture
def references(tmp_path: Path) -> Path:
    (tmp_path / "data" / "labelsTr").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    return tmp_path / "data" / "labelsTr"


def write(path: Path, labels: object = LABELS) -> Path:
    path.write_text(json.dumps({"labels": labels}))
    return path


def source(references: Path) -> str | None:
    root = references.parents[1]
    found = find_labels(root / "masks", references, root / "work")
    return None if found is None else found.source


def test_the_references_dataset_comes_before_the_predictions(references: Path) -> None:
    assert source(references) is None
    by_nnunet = write(references.parents[1] / "masks" / "dataset.json")
    assert source(references) == str(by_nnunet)
    by_dataset = write(references.parent / "dataset.json")
    assert source(references) == str(by_dataset.resolve())


def test_a_work_folder_knows_the_labels_of_its_own_dataset(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    plan_dataset(PlanJob(dataset=synthetic_dataset, work=work, target="cpu"), workers=1)
    by_plan = read_labels_of(work)
    assert by_plan.labels is not None and by_plan.labels.names[0] == "background"
    assert read_labels_of(work / "plans" / "cpu.json").labels == by_plan.labels
    (tmp_path / "elsewhere").mkdir()
    assert find_labels(tmp_path, tmp_path / "elsewhere", work) is None


def test_the_decathlons_labels_are_read_too(references: Path) -> None:
    path = write(references / "d.json", {"0": "background", "1": "liver"})
    found = read_labels_of(path).labels
    assert found is not None and found.names == ("background", "liver")


def test_a_description_that_cannot_be_used_is_told_and_not_followed(references: Path) -> None:
    write(references.parent / "dataset.json", {"liver": "one"})
    root = references.parents[1]
    for folder in (root / "masks", references):
        save(folder / "a.nii.gz", [[[0, 1]]])
    declared = find_labels(root / "masks", references, root / "work")
    notes = evaluate_folders(root / "masks", references, 1, declared=declared).notes
    assert "names are not known, since" in notes[0] and "label 'liver'" in notes[0]


def test_regions_are_scored_as_regions(references: Path) -> None:
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    path = references.parent / "dataset.json"
    path.write_text(json.dumps({"labels": regions, "regions_class_order": [1, 2]}))
    masks = references.parents[1] / "masks"
    save(masks / "a.nii.gz", [[[0, 1, 1]]])
    save(references / "a.nii.gz", [[[0, 1, 2]]])
    scores = evaluate_folders(masks, references, 1, declared=read_labels_of(path)).classes
    assert {name: mean["dice"] for name, mean in scores.items()} == {"whole": 1.0, "core": 0.0}


def test_a_folder_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match=r"neither dataset\.json nor a plan"):
        read_labels_of(tmp_path)
