"""What all tests of pipelines have in common."""

import pytest

from autoseg.reporting import curves


@pytest.fixture(autouse=True)
def quickly(torch_runs_networks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is compiled here, and no training drawn."""
    monkeypatch.setattr(curves, "draw_progress", lambda metrics, png: None)
    monkeypatch.setattr(curves, "draw_examples", lambda examples, png: None)
