"""Scans made in code, and the way to the real ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoseg.dataset.synthetic import write_dataset

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled networks of tests go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def torch_runs_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that see a few patches in their life are not compiled: it takes longer."""
    from autoseg.inference import ways  # torch takes seconds to import

    monkeypatch.setattr(ways, "is_installed", lambda: False)


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
