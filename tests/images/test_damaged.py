"""A few damaged files of each format; benchmarks/damaged_files.py tries thousands."""

import pytest

from benchmarks.damaged_files import KINDS, try_files


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_or_read_as_another_reader_does(name: str) -> None:
    outcomes = [result for _, _, result in try_files(name, range(24))]
    assert [result for result in outcomes if result.startswith(("error", "OTHER"))] == []
    assert "refused" in outcomes
