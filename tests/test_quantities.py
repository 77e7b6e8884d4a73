import pytest

from autoseg.quantities import duration_text, size_text


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.5, "30 seconds"),
        (2, "2 minutes"),
        (119, "119 minutes"),
        (150, "2.5 hours"),
        (7200, "5.0 days"),
    ],
)
def test_durations(minutes: float, text: str) -> None:
    assert duration_text(minutes) == text


@pytest.mark.parametrize(("gib", "text"), [(0.04, "41 MiB"), (1, "1.0 GiB"), (23.46, "23.5 GiB")])
def test_sizes(gib: float, text: str) -> None:
    assert size_text(gib) == text
