import shutil
from pathlib import Path

import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.synthetic import write_dataset
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.consistency import SidePair, dataset_problems, side_pairs


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
