"""Scores as CSV, read back by Python's own reader."""

import csv
from pathlib import Path

from autoseg.evaluation.score_table import write_scores
from tests.evaluation.test_statistics import evaluation_of


def test_each_case_and_class_is_a_row_and_what_is_not_defined_is_empty(tmp_path: Path) -> None:
    one = evaluation_of({"a": {"1": 0.5, "2": None}, "b, c": {"1": 0.25, "2": 1.0}})
    one = one.model_copy(update={"names": {"1": 'the "left" one'}, "patients": {"a": "anna"}})
    write_scores({"masks": one, "other": one}, tmp_path / "new" / "scores.csv")
    with (tmp_path / "new" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0] == {
        "masks": "masks", "case": "a", "patient": "anna", "class": "1",
        "name": 'the "left" one', "dice": "0.5",
    }  # fmt: skip
    assert (rows[1]["dice"], rows[1]["name"], rows[2]["case"]) == ("", "2", "b, c")
    assert rows[4]["masks"] == "other"
