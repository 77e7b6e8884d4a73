"""Written objects before other programs: valid for dciodvfy, and the same voxels for dcmqi.

Both are looked for on the PATH: dicom3tools of Debian, and the wheel dcmqi.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.dicom_series import ORIENTATIONS, Series, scan, write_enhanced, write_series
from tests.images.dicom.test_written import findings_of, numbers, write_all

VALIDATOR, READER = shutil.which("dciodvfy"), shutil.which("segimage2itkimage")
NOT_KNOWN = "labelmap.dcm"  # its class is younger than dciodvfy: "Information Object Not found"


def write_scan(folder: Path, index: int) -> None:
    """Series of every orientation, tilted, enhanced, or with a missing slice in turn."""
    series = Series(scan(), *ORIENTATIONS[index], shear_mm=0.9 * (index % 2))
    if index % 3 == 1:
        write_enhanced(folder, series)
    else:
        write_series(folder, series, leave_out=[2] if index % 3 == 2 else [])


@pytest.mark.slow
@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy (Debian: dicom3tools) is not here")
@pytest.mark.parametrize("index", range(len(ORIENTATIONS)))
def test_dciodvfy_finds_no_error(tmp_path: Path, index: int) -> None:
    assert VALIDATOR is not None
    write_scan(tmp_path / "scan", index)
    for path in write_all(tmp_path / "masks", findings_of(tmp_path)):
        if path.name != NOT_KNOWN:
            told = subprocess.run([VALIDATOR, path], capture_output=True, text=True, check=False)
            assert "Error" not in told.stdout + told.stderr, told.stderr


@pytest.mark.slow
@pytest.mark.skipif(READER is None, reason="segimage2itkimage (dcmqi) is not here")
@pytest.mark.parametrize("index", range(0, len(ORIENTATIONS), 2))  # those without tilt
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_dcmqi_reads_the_same_voxels(tmp_path: Path, index: int, kind: str) -> None:
    assert READER is not None
    write_scan(tmp_path / "scan", index)
    found = findings_of(tmp_path)
    write_all(tmp_path / "masks", found)
    command = [READER, "--inputDICOM", str(tmp_path / "masks" / f"{kind}.dcm")]
    command += ["--outputDirectory", str(tmp_path), "--outputType", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    for segment in found.segments:
        file = segment.number if kind == "binary" else 1  # a label map is one file of all
        image = sitk.ReadImage(str(tmp_path / f"{file}.nrrd"))
        inside = sitk.GetArrayFromImage(image) == segment.number
        expected = np.argwhere(numbers(found) == segment.number)[:, ::-1]  # file indices
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.stack.grid.affine_ras_mm
        points = (np.c_[expected, np.ones(len(expected))] @ affine.T)[:, :3]
        held = np.argwhere(inside)[:, ::-1]
        placed = [image.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in held]
        assert {tuple(np.round(p, 3) + 0.0) for p in placed} == {
            tuple(np.round(p, 3) + 0.0) for p in points
        }
