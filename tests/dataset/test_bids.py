"""BIDS data sets in, and derivatives out.

Covers: layouts.bids, bids_derivatives.
"""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.bids_derivatives import write_derivative
from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.inputs import list_scans
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.bids import channel_of, entities_of
from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.errors import AutosegError
from autoseg.images.volume import read_image, read_labels

SCHEME = LabelScheme(values=(0, 2, 3), names=("background", "core", "edema"))


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), path)
    return path


def write_bids(root: Path) -> Path:
    for subject, session in (("01", "a"), ("01", "b"), ("02", "a")):
        stem = f"sub-{subject}_ses-{session}"
        anat = f"sub-{subject}/ses-{session}/anat"
        for suffix in ("T1w", "FLAIR"):
            save(root / anat / f"{stem}_{suffix}.nii.gz")
        save(root / "derivatives" / "manual" / anat / f"{stem}_space-orig_dseg.nii.gz")
    table = "index\tname\n2\tcore\n3\tedema\n"
    (root / "derivatives" / "manual" / "dseg.tsv").write_text(table)
    return root


def test_subjects_are_patients_and_suffixes_channels(tmp_path: Path) -> None:
    dataset = open_dataset(write_bids(tmp_path))
    assert dataset.layout == "bids"
    assert dataset.channel_names == ("FLAIR", "T1w")
    assert dataset.labels == SCHEME
    assert [(case.case_id, case.patient_id) for case in dataset.cases] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02_ses-a", "sub-02"),
    ]
    assert [path.name for path in dataset.cases[0].files()] == [
        "sub-01_ses-a_FLAIR.nii.gz",
        "sub-01_ses-a_T1w.nii.gz",
    ]


def test_masks_are_one_class_named_by_their_label(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz")
    save(tmp_path / "derivatives/x/sub-1/anat/sub-1_label-lesion_mask.nii.gz")
    assert open_dataset(tmp_path).labels == LabelScheme(
        values=(0, 1), names=("background", "lesion")
    )


def test_scans_without_labels_are_no_training_cases(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz")
    dataset, problems = survey_dataset(tmp_path)
    assert len(dataset.test_cases) == 1 and not problems
    with pytest.raises(AutosegError, match="no labels to learn from"):
        open_dataset(tmp_path)


def test_a_missing_modality_and_a_second_label_are_told(tmp_path: Path) -> None:
    root = write_bids(tmp_path)
    save(root / "sub-03/ses-a/anat/sub-03_ses-a_T1w.nii.gz")
    save(root / "derivatives/auto/sub-02/ses-a/anat/sub-02_ses-a_dseg.nii.gz")
    problems = {problem.kind: problem for problem in survey_dataset(root)[1]}
    assert "lacks FLAIR" in problems["left_out"].what
    assert problems["naming"].case_id == "sub-02_ses-a"


def test_entities_and_channels_of_names() -> None:
    entities, suffix = entities_of(Path("sub-1_ses-2_acq-fat_run-1_T2w.nii.gz"))
    assert (list(entities), suffix) == (["sub", "ses", "acq", "run"], "T2w")
    assert channel_of(Path("sub-1_ce-gd_T1w.nii")) == "ce-gd_T1w"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-1_ses-2_T1w", "sub-1/ses-2/anat/sub-1_ses-2_desc-autoseg_dseg"),
        ("scan_3", "sub-scan3/anat/sub-scan3_desc-autoseg_dseg"),
    ],
)
def test_derivatives_say_what_made_them(tmp_path: Path, name: str, expected: str) -> None:
    scan = save(tmp_path / f"{name}.nii.gz")
    mask = read_labels(scan)
    path = write_derivative(
        tmp_path / "out", Case(name, (ChannelSource(scan),), None, name), mask, SCHEME
    )
    assert path == tmp_path / "out" / f"{expected}.nii.gz"
    np.testing.assert_array_equal(read_image(path).array[0], mask.array)
    with path.with_name(path.name.replace(".nii.gz", ".tsv")).open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[1] == {"index": "2", "name": "core"}
    assert "nobody has corrected" in (tmp_path / "out" / "README").read_text()
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "autoseg"
    assert description["DatasetType"] == "derivative"


def test_a_folder_is_segmented_by_the_suffixes_that_a_models_channels_are_called(
    tmp_path: Path,
) -> None:
    root = write_bids(tmp_path)
    scans = list_scans([root], 2, channel_names=("T1w", "FLAIR"))
    assert [case.case_id for case in scans.cases] == [
        "sub-01_ses-a",
        "sub-01_ses-b",
        "sub-02_ses-a",
    ]
    suffixes = [path.name.split("_")[-1] for path in scans.cases[0].files()]
    assert suffixes == ["T1w.nii.gz", "FLAIR.nii.gz"]
    with pytest.raises(AutosegError, match="has FLAIR, T1w, but the model needs T2w"):
        list_scans([root], 1, channel_names=("T2w",))


def test_subjects_of_one_suffix_serve_any_model_of_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz")
    [case] = list_scans([tmp_path], 1, channel_names=("MRI",)).cases
    assert case.case_id == "sub-1"
