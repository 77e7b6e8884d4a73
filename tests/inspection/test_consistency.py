import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import write_dataset
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.consistency import SidePair, dataset_problems, side_pairs
from autoseg.pipeline.check import check_dataset
from tests.dataset.made_up import describe, save


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left kidney", "right kidney"),
        ("kidney_left", "Kidney_Right"),
        ("Femur L", "Femur R"),
        ("lung_l_upper", "lung_r_upper"),
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("ctx-lh-insula", "ctx-rh-insula"),
        ("LeftKidney", "RightKidney"),
        ("kidneyL", "kidneyR"),
        ("LEFT_ADRENAL", "right_adrenal"),
    ],
)
def test_names_that_differ_in_their_side_are_pairs(left: str, right: str) -> None:
    assert side_pairs(("background", right, left)) == (SidePair(left, right),)


def test_other_names_are_no_pairs() -> None:
    names = (
        "background",
        "liver",
        "river",
        "left kidney",
        "spleen",
        "cleft",
        "cright",
        "l1",
        "r1",
        "Lung",
        "Rung",
    )
    assert side_pairs(names) == ()


def problems_of(dataset: Dataset) -> dict[str, list[str | None]]:
    inspections = inspect_cases(dataset, dataset.cases + dataset.test_cases, None, workers=1)
    found: dict[str, list[str | None]] = {}
    for problem in dataset_problems(dataset, inspections):
        found.setdefault(problem.kind, []).append(problem.case_id)
    return found


def test_a_sound_dataset_has_no_problems(synthetic_dataset: Path) -> None:
    assert problems_of(open_dataset(synthetic_dataset)) == {}


def test_copies_and_labels_that_never_occur_are_found(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3, shape_vox=(20, 20, 10))
    images = tmp_path / "imagesTr"
    shutil.copy(images / "case_000_0000.nii.gz", images / "case_002_0000.nii.gz")
    labels_folder = tmp_path / "labelsTr"
    shutil.copy(labels_folder / "case_000.nii.gz", labels_folder / "case_002.nii.gz")
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None
    labels = LabelScheme(
        values=(*dataset.labels.values, 9), names=(*dataset.labels.names, "nowhere")
    )
    changed = Dataset(tmp_path, "nnunet_raw", dataset.channel_names, labels, dataset.cases)
    assert problems_of(changed) == {"duplicate": ["case_002"], "unused_label": [None]}


def test_a_patient_on_both_sides_is_found(synthetic_dataset: Path) -> None:
    dataset = open_dataset(synthetic_dataset)
    first, second, *others = dataset.cases
    same = Case("again", second.channels, second.label, first.patient_id)
    both = Dataset(
        dataset.root,
        dataset.layout,
        dataset.channel_names,
        dataset.labels,
        (first, *others),
        test_cases=(same,),
    )
    assert problems_of(both) == {"patient_in_train_and_test": ["again"]}


def test_sides_are_noted(synthetic_dataset: Path) -> None:
    dataset = open_dataset(synthetic_dataset)
    labels = LabelScheme(values=(0, 1, 2, 3), names=("background", "ear_left", "ear_right", "c"))
    sided = Dataset(dataset.root, dataset.layout, dataset.channel_names, labels, dataset.cases)
    assert problems_of(sided) == {"left_right": [None]}


def labelled(folder: Path, values: dict[str, tuple[int, ...]], **description: Any) -> Path:
    """Cases whose label maps hold these values."""
    labels = {"background": 0, "liver": 1, "tumour": 2}
    for index, (case, of_case) in enumerate(values.items()):
        save(folder / "imagesTr" / f"{case}_0000.nii.gz", index, index + 1)
        save(folder / "labelsTr" / f"{case}.nii.gz", *of_case)
    return describe(folder, labels=labels, **description)


def messages_of(folder: Path) -> dict[str, str]:
    report, _ = check_dataset(folder, None, workers=1)
    return {problem.kind: problem.message() for problem in report.problems}


def test_a_class_in_one_case_alone_is_a_warning(tmp_path: Path) -> None:
    values = dict.fromkeys("abcdef", (0, 1))
    labelled(tmp_path, values | {"c": (0, 1, 2)})
    assert messages_of(tmp_path) == {
        "rare_class": "label 2 (tumour) is in c alone: the fold that holds it out never trains on "
        "it. Add cases that have it, or train on all with `autoseg train --fold all`."
    }


def test_a_class_in_fewer_patients_than_folds_is_a_warning(tmp_path: Path) -> None:
    values = dict.fromkeys("abcdef", (0, 1))
    labelled(tmp_path, values | {"c": (0, 1, 2), "d": (0, 2)})
    assert "2 patients alone (c, d), and there are 5 folds" in messages_of(tmp_path)["rare_class"]
    labelled(tmp_path, dict.fromkeys("abcdef", (0, 1, 2)))
    assert messages_of(tmp_path) == {}


def test_a_case_that_is_ignored_throughout_is_named_once(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "ignore": 3}
    labelled(tmp_path, {"a": (3,), "b": (0, 1), "c": (0, 1)})
    describe(tmp_path, labels=labels)
    messages = messages_of(tmp_path)
    assert set(messages) == {"all_ignored", "rare_class"} and messages["all_ignored"][:2] == "a:"
    assert "it is left out of training" in messages["all_ignored"]


def test_folds_that_part_scans_of_a_patient_are_a_warning(tmp_path: Path) -> None:
    folder = labelled(tmp_path, dict.fromkeys("abc", (0, 1, 2)), patients={"a": "p", "b": "p"})
    folds = [{"train": ["a"], "val": ["b"]}, {"train": ["a", "b"], "val": ["c"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    assert "some scans of p and hold out" in messages_of(folder)["patient_in_both_parts"]


def test_incomplete_cases_are_counted(tmp_path: Path) -> None:
    labelled(tmp_path, dict.fromkeys("abc", (0, 1, 2)))
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()
    assert check_dataset(tmp_path, None, workers=1)[0].cases == 3
