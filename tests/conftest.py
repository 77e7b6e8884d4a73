"""Scans made in code, and the way to the real ones."""

from pathlib import Path

import pytest

from autoseg.synthetic import write_dataset

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small anisotropic scans in nnU-Net's raw layout. Tests only read it."""
    folder = tmp_path_factory.mktemp("synthetic") / "dataset"
    write_dataset(folder, 6, shape_vox=(40, 36, 14))
    return folder


@pytest.fixture
def hippocampus() -> Path:
    """The real hippocampus dataset; tests that ask for it are skipped without it."""
    folder = SHARED_DATA / "hippocampus"
    if not folder.is_dir():
        pytest.skip(f"real data are not here: {folder}")
    return folder
