"""Whose the scored cases are is looked for where it is stated."""

import json
from pathlib import Path

from autoseg.dataset.synthetic import write_dataset
from autoseg.evaluation.patients import LOOK_ALIKE, NOT_KNOWN, find_patients
from autoseg.machine import machine_without_gpu
from autoseg.work_folder import WorkFolder, WorkState

NOWHERE = Path("there is no work folder")


def references(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / f"{name}.nii.gz" for name in names}


def test_dataset_json_beside_references_states_patients(tmp_path: Path) -> None:
    description = {"labels": {"background": 0, "a": 1}, "patients": {"s1": "anna", "s2": "anna"}}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    found = find_patients(references(tmp_path / "labelsTr", "s1", "s2", "s3"), NOWHERE)
    assert found.of_case == {"s1": "anna", "s2": "anna", "s3": "s3"}
    assert found.notes == ()


def test_names_of_bids_are_certain_and_others_are_said(tmp_path: Path) -> None:
    cases = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
    found = find_patients(references(tmp_path, *cases), NOWHERE)
    assert sorted(set(found.of_case.values())) == ["sub-01", "sub-02_ses-1"]
    assert found.notes == ()
    assert find_patients(references(tmp_path, "a", "b"), NOWHERE).notes == (NOT_KNOWN,)
    visits = ("p1_visit1", "p1_visit2", "p2_visit1", "p2_visit2")
    assert find_patients(references(tmp_path, *visits), NOWHERE).notes == (LOOK_ALIKE,)


def test_a_work_folder_knows_the_patients_of_its_dataset(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, 3, shape_vox=(8, 8, 4))
    description = json.loads((data / "dataset.json").read_text())
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (data / "labelsTr").iterdir())
    (data / "dataset.json").write_text(
        json.dumps(description | {"patients": dict.fromkeys(cases, "x")})
    )
    work = WorkFolder(tmp_path / "work")
    machine = machine_without_gpu()
    work.save_state(
        WorkState(
            dataset=work.place_of(data), layout="nnunet_raw", machine=machine, current_plan="cpu"
        )
    )
    elsewhere = tmp_path / "links"
    elsewhere.symlink_to(data / "labelsTr")
    found = find_patients(references(elsewhere, *cases), work.root)
    assert set(found.of_case.values()) == {"x"}
