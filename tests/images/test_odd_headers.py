"""Every unusual and broken file of the shared collection: its outcome is pinned, file by file."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.images.dicom.opening import is_dicom
from autoseg.images.formats import file_ending
from autoseg.images.volume import read_image
from autoseg.pipeline.check import check_dataset

ODD = Path(__file__).parents[3] / "shared" / "data" / "odd_headers"
PINNED = json.loads((Path(__file__).parent / "odd_headers.json").read_text())

pytestmark = pytest.mark.skipif(not ODD.is_dir(), reason=f"real data are not here: {ODD}")


def outcome(path: Path) -> dict[str, Any]:
    """What `check` says of a file, and the grid that it is read on."""
    try:
        report, _ = check_dataset(path, None, workers=1)
    except AutosegError as error:
        return {"refused": str(error).replace(str(path), "FILE").split(" (")[0]}
    result: dict[str, Any] = {"problems": sorted(problem.kind for problem in report.problems)}
    if not report.count("error"):
        grid = read_image(path).grid
        result["shape_vox"] = list(grid.shape_vox)
        result["spacing_mm"] = [round(mm, 4) for mm in grid.spacing_mm]
        result["axis_codes"] = grid.axis_codes
    return result


def test_every_file_of_the_collection_is_pinned() -> None:
    found = {str(path.relative_to(ODD)) for path in ODD.rglob("*") if path.is_file()}
    assert found == set(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_checking_an_odd_file_ends_as_it_did(name: str) -> None:
    assert outcome(ODD / name) == PINNED[name]


def is_read_by_nibabel(name: str) -> bool:
    return "shape_vox" in PINNED[name] and not is_dicom(ODD / name)


@pytest.mark.parametrize("name", [n for n in PINNED if is_read_by_nibabel(n)])
def test_odd_files_lie_where_nibabel_says(name: str) -> None:
    expected = nib.load(ODD / name).affine
    np.testing.assert_allclose(read_image(ODD / name).grid.affine_ras_mm, expected, atol=1e-4)
    assert file_ending(ODD / name)
