"""docs/files.md says what becomes of files, and it is true."""

import pytest

from tests.files_table import BEGIN, END, PAGE, outcome_of, rendered, rows
from tests.odd_files import Row


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.room}: {row.what}")
def test_a_file_is_read_warned_of_or_refused_as_it_should_be(row: Row) -> None:
    found, told = outcome_of(row)
    assert found == row.outcome, told


def test_the_page_shows_what_was_found() -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == rendered(), "run `python -m tests.files_table`"
