"""Datasets of empty or tiny files, for tests of names and descriptions."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from autoseg.dataset.layouts.recognition import survey_dataset
from autoseg.dataset.problems import Problem

DESCRIPTION = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "liver": 1},
    "file_ending": ".nii.gz",
}


def touch(folder: Path, *names: str) -> Path:
    """Empty files; their folders are made."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def describe(folder: Path, **changes: Any) -> Path:
    """A dataset.json of one channel and one class; what is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {k: v for k, v in (DESCRIPTION | changes).items() if v is not None}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def raw_dataset(folder: Path, *cases: str, **changes: Any) -> Path:
    """nnU-Net's raw layout with empty images and labels of these cases."""
    describe(folder, **changes)
    touch(folder, *(f"imagesTr/{case}_0000.nii.gz" for case in cases))
    return touch(folder, *(f"labelsTr/{case}.nii.gz" for case in cases))


def save(path: Path, *values: int) -> Path:
    """A label map, or an image, that holds these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.resize(np.array(values or (0, 1), np.uint8), (8, 9, 10))
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def found_in(folder: Path) -> list[Problem]:
    return survey_dataset(folder)[1]


def cases_of(folder: Path) -> list[str]:
    return [case.case_id for case in survey_dataset(folder)[0].cases]


def said(folder: Path) -> dict[str, str]:
    """Messages by kind; of equal kinds the last."""
    return {problem.kind: problem.message() for problem in found_in(folder)}
