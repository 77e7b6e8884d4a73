"""The table of docs/files.md: what each format and odd file gives, found by trying it.

    python -m tests.files_table

writes it anew; a test fails while it is not what it should be.
"""

import tempfile
from functools import cache
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.pipeline.check import check_dataset
from tests.odd_datasets import rows_of_layouts, rows_of_object_layouts, rows_of_other_layouts
from tests.odd_dicom import rows_of_dicom
from tests.odd_files import Outcome, Row, rows_of_itk, rows_of_nifti, rows_of_pictures

PAGE = Path(__file__).parents[1] / "docs" / "files.md"
BEGIN, END = "<!-- made by tests/files_table.py -->\n", "<!-- end -->\n"


def rows() -> list[Row]:
    """Every kind of file of the table."""
    files = [*rows_of_nifti(), *rows_of_itk(), *rows_of_pictures(), *rows_of_dicom()]
    return [*files, *rows_of_layouts(), *rows_of_other_layouts(), *rows_of_object_layouts()]


@cache
def outcome_of(row: Row) -> tuple[Outcome, str]:
    """What `check` says of a file of this kind: a word, and the first of its sentences."""
    with tempfile.TemporaryDirectory() as folder:
        path = row.make(Path(folder))
        try:
            report, _ = check_dataset(path, None, workers=1)
        except AutosegError as error:
            return "refused", str(error)
    for severity, outcome in (("error", "refused"), ("warning", "warned")):
        for problem in report.problems:
            if problem.severity == severity:
                return outcome, problem.what  # type: ignore[return-value]
    return "read", ""


def rendered() -> str:
    """The table in Markdown, as it is found by trying."""
    lines = ["| format or layout | what is odd, or not | outcome |", "| --- | --- | --- |"]
    lines += [f"| {row.room} | {row.what} | {outcome_of(row)[0]} |" for row in rows()]
    return "\n".join(lines) + "\n"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + rendered() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
