import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.problems import Problem
from autoseg.inspection.cached import inspect_cases
from autoseg.inspection.hounsfield import channel_problems_of_values, means_ct


@pytest.mark.parametrize(
    "name",
    ["CT", "CT ", "ct scan", "Computed tomography", "CTA", "CECT", "ncct", "CT_venous", "ct-0"],
)
def test_names_say_ct_in_many_ways(name: str) -> None:
    assert means_ct(name)


@pytest.mark.parametrize(
    "name",
    ["T1ct", "Ctx", "ACT", "T1-CE", "PT", "PET/CT", "SPECT CT", "T1 CT", "octa", "CT perfusion CBF",
     "CT windowed", "channel_0", "MRI", ""],
)  # fmt: skip
def test_other_names_with_these_letters_do_not(name: str) -> None:
    assert not means_ct(name)


def scan(rng: np.random.Generator) -> np.ndarray:
    """Air around soft tissue with bone in it."""
    values = rng.normal(-1000, 15, (12, 20, 20))
    values[:, 4:16, 4:16] = rng.normal(40, 40, (12, 12, 12))
    values[:, 9:11, 9:11] = 1100
    return np.rint(values)


def found(root: Path, name: str, change: float = 1.0, offset: float = 0.0) -> list[Problem]:
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for case in "abc":
        label = np.zeros((12, 20, 20), np.uint8)
        label[3:6, 5:9, 5:9] = 1
        image = (scan(rng) * change + offset).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / "imagesTr" / f"{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), root / "labelsTr" / f"{case}.nii.gz")
    description = {"channel_names": {"0": name}, "labels": {"background": 0, "organ": 1}}
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ".nii.gz"}))
    dataset = open_dataset(root)
    inspections = inspect_cases(dataset, dataset.cases, None, workers=1)
    return list(channel_problems_of_values(dataset, inspections))


@pytest.mark.parametrize("name", ["channel_0", "scan"])
def test_hounsfield_units_without_the_name_are_told_with_their_evidence(
    tmp_path: Path, name: str
) -> None:
    (problem,) = found(tmp_path, name)
    assert (problem.kind, problem.severity) == ("channel_values", "warning")
    assert f"channel {name!r} looks like CT" in problem.what
    assert "of the background near -1000" in problem.what
    assert '"channel_names": {"0": "CT"}' in problem.fix


def test_ct_that_is_called_so_is_nothing_to_speak_of(tmp_path: Path) -> None:
    assert found(tmp_path, "CT") == []


def test_a_name_that_was_understood_is_noted(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, "ct scan")
    assert problem.severity == "note" and "'ct scan' is taken for CT" in problem.what


@pytest.mark.parametrize(
    ("change", "offset", "evidence"),
    [
        (0.1, 120, "as those of 8-bit pictures do"),
        (0.001, 0, "normalised"),
        (1, 1100, "1024"),
        (1, 3000, "none is below 0"),
    ],
)
def test_a_channel_called_ct_with_other_values_is_told(
    tmp_path: Path, change: float, offset: float, evidence: str
) -> None:
    (problem,) = found(tmp_path, "CT", change, offset)
    assert "its values are no Hounsfield units" in problem.what and evidence in problem.what


@pytest.mark.parametrize(("change", "offset"), [(1, 1100), (4, 0), (0.02, 3)])
def test_other_values_under_other_names_are_nothing_to_speak_of(
    tmp_path: Path, change: float, offset: float
) -> None:
    assert found(tmp_path, "MRI", change, offset) == []
