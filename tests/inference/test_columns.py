import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.geometry import Grid
from autoseg.inference.columns import Footprint, columns_that_fit
from autoseg.inference.restore import interpolation_matrices
from autoseg.machine import GIB
from autoseg.networks import family_of
from autoseg.preprocessing.placing import prepare_scan
from tests.inference.model_files import small_configuration, write_model

LIMIT_GIB = 4


def footprint(outputs: int) -> Footprint:
    configuration = small_configuration((32, 128, 128), (2.5, 0.8, 0.8))
    scan = np.ones((1, 8, 300, 300), np.float32)
    grid = Grid((8, 300, 300), np.diag([0.7, 0.7, 2.5, 1]))
    prepared = prepare_scan(scan, None, grid, configuration.grid, "scan")
    model = configuration.model
    return Footprint(
        configuration=configuration,
        cost=family_of(model.network.kind).cost(model),
        placement=prepared.placement,
        channels=1,
        outputs=outputs,
        compared_models=0,
        matrices=interpolation_matrices(prepared.placement, configuration.grid.resampling),
    )


def test_columns_cover_the_scan_and_are_as_few_as_memory_allows() -> None:
    few, fits = columns_that_fit([footprint(3)], 4 * GIB)
    assert fits and len(few) == 1
    many, fits = columns_that_fit([footprint(120)], GIB)
    assert fits and len(many) > 1
    assert all(footprint(120).column_bytes(column) <= GIB for column in many)
    covered = np.zeros((300, 300), int)
    for column in many:
        covered[slice(*column.y), slice(*column.x)] += 1
    assert (covered == 1).all()
    _, fits = columns_that_fit([footprint(120)], 0)
    assert not fits


def test_a_small_scan_is_not_cut_where_that_saves_nothing() -> None:
    small = footprint(2)
    columns, fits = columns_that_fit([small], 0.4 * GIB)
    assert fits and len(columns) == 1
    columns, fits = columns_that_fit([small], 0)
    assert not fits and len(columns) == 1


def predict(arguments: list[str]) -> float:
    """Run `autoseg predict` in a process of its own; the most memory that it held, in GiB."""
    process = subprocess.Popen([sys.executable, "-m", "autoseg", "predict", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * 1024 / GIB


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 120])
def test_the_peak_of_memory_obeys_its_limit(tmp_path: Path, classes: int) -> None:
    configuration = small_configuration((32, 128, 128), (2.5, 0.8, 0.8), features=8, mirrored=())
    model = write_model(tmp_path / "model.safetensors", configuration, classes)
    noise = np.random.default_rng(0).normal(100, 20, (512, 512, 40)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.diag([0.7, 0.7, 2.5, 1])), tmp_path / "scan.nii.gz")
    peaks: dict[str, float] = {}
    for name, limit in (("free", []), ("limited", ["--memory-gb", str(LIMIT_GIB)])):
        common = [str(tmp_path / "scan.nii.gz"), str(tmp_path / name), "--model", str(model)]
        peaks[name] = predict([*common, "--precision", "fp32", *limit])
    assert peaks["limited"] <= LIMIT_GIB, peaks
    assert (peaks["free"] > LIMIT_GIB) == (classes == 120), peaks
    free, limited = (nib.load(tmp_path / name / "scan.nii.gz") for name in peaks)
    np.testing.assert_array_equal(free.get_fdata(), limited.get_fdata())
