"""What all tests of pipelines have in common."""

import pytest

from autoseg.inference import predictor


@pytest.fixture(autouse=True)
def torch_runs_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that see a few patches in their life are not compiled: it takes longer."""
    monkeypatch.setattr(predictor, "is_installed", lambda: False)
