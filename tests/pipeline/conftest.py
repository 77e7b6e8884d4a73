"""What all tests of pipelines have in common."""

import pytest


@pytest.fixture(autouse=True)
def quickly(torch_runs_networks: None) -> None:
    """No network is compiled here."""
