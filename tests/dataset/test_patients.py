"""Covers: layouts.patients."""

import re
from pathlib import Path

import pytest

from autoseg.dataset.layouts.patients import patients_in_names
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.splits import make_splits
from tests.dataset.made_up import describe, found_in, raw_dataset, said, touch


def patients_of(folder: Path) -> dict[str, str]:
    return {case.case_id: case.patient_id for case in open_dataset(folder).cases}


def test_subjects_of_bids_are_patients_and_this_is_said(tmp_path: Path) -> None:
    names = ["sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_T1w"]
    raw_dataset(tmp_path, *names)
    assert patients_of(tmp_path) == dict(zip(names, ["sub-01", "sub-01", names[2]], strict=True))
    (problem,) = found_in(tmp_path)
    assert (problem.kind, problem.severity) == ("patients_by_name", "note")
    assert "2 cases are of one patient (sub-01: sub-01_ses-1_T1w, sub-01_ses-2_T1w" in problem.what
    assert (
        f'If this is wrong, add "patients": "by case" to {tmp_path / "dataset.json"}' in problem.fix
    )
    describe(tmp_path, patients="by case")
    assert (len(set(patients_of(tmp_path).values())), found_in(tmp_path)) == (3, [])


@pytest.mark.parametrize(
    "visits",
    [
        ("v1", "v2"),
        ("visit2", "visit3"),
        ("ses-1", "ses-2"),
        ("t0", "t1"),
        ("baseline", "followup"),
        ("pre", "post"),
        ("L", "R"),
        ("left", "right"),
        ("20200131", "20210131"),
        ("frame01", "frame12"),
    ],
)
def test_names_that_look_like_visits_are_a_warning(tmp_path: Path, visits: tuple[str, str]) -> None:
    raw_dataset(tmp_path, *(f"{who}_{visit}" for who in ("anna", "p-02") for visit in visits))
    assert "4 cases are of 2 patients (anna: anna_" in said(tmp_path)["patients_not_stated"]
    assert len(set(patients_of(tmp_path).values())) == 4


def test_patients_in_names_are_taken_as_the_warning_says(tmp_path: Path) -> None:
    names = [f"p{who}_v{visit}_{side}" for who in range(3) for visit in (1, 2) for side in "LR"]
    raw_dataset(tmp_path, *names)
    stated = re.search(r'Add "patients": "([a-z ]+)"', said(tmp_path)["patients_not_stated"])
    assert stated
    describe(tmp_path, patients=stated[1])
    assert found_in(tmp_path) == []
    assert set(patients_of(tmp_path).values()) == {"p0", "p1", "p2"}
    describe(tmp_path, patients="by case")
    assert found_in(tmp_path) == []
    assert len(set(patients_of(tmp_path).values())) == 12


def test_patients_may_be_stated_one_by_one(tmp_path: Path) -> None:
    raw_dataset(tmp_path / "raw", "a", "b", "c", patients={"a": "anna", "b": "anna", "z": "zoe"})
    assert patients_of(tmp_path / "raw") == {"a": "anna", "b": "anna", "c": "c"}
    assert "patients are stated of z" in said(tmp_path / "raw")["description"]
    touch(tmp_path / "plain", "images/a.nrrd", "images/b.nrrd", "labels/a.nrrd", "labels/b.nrrd")
    (tmp_path / "plain" / "dataset.json").write_text('{"patients": {"a": "anna", "b": "anna"}}')
    assert patients_of(tmp_path / "plain") == {"a": "anna", "b": "anna"}


def test_patients_of_a_table_are_asked_for_in_its_column(tmp_path: Path) -> None:
    names = ["p1_v1", "p1_v2", "p2_v1", "p2_v2"]
    touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    rows = [f"{name},{name}.nii.gz,{name}.nii.gz" for name in names]
    (tmp_path / "manifest.csv").write_text("\n".join(["case,CT,label", *rows]))
    assert "fill the column patient" in said(tmp_path)["patients_not_stated"]
    rows = [f"{row},{row[:2]}" for row in rows]
    (tmp_path / "manifest.csv").write_text("\n".join(["case,CT,label,patient", *rows]))
    assert found_in(tmp_path) == []


def test_scans_of_a_patient_with_a_number_of_their_own_are_found() -> None:
    names = [f"BraTS-GLI-{who:05d}-{visit:03d}" for who in range(5) for visit in (0, 1)]
    assert len(patients_in_names(names)) == 5


@pytest.mark.parametrize(
    "name", ["hippocampus_{:03d}", "case_v{}", "{}", "BRATS_{:04d}", "site1_{:03d}", "scan_{}_T1w"]
)
def test_ordinary_names_are_of_one_patient_each(name: str) -> None:
    names = [name.format(index) for index in range(100)]
    assert patients_in_names(names) == {}


def test_folds_keep_patients_in_names_together(tmp_path: Path) -> None:
    raw_dataset(tmp_path, *(f"sub-{who:02d}_ses-{visit}" for who in range(8) for visit in (1, 2)))
    patients = patients_of(tmp_path)
    assert make_splits(patients).mixed_patients(patients) == set()
