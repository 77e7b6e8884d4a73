"""All scores as a table: a row for each case and class, for spreadsheets and statistics."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from autoseg.evaluation.evaluation import Evaluation
from autoseg.records import replacing

COLUMNS = ("masks", "case", "patient", "class", "name")


def write_scores(evaluations: Mapping[str, Evaluation], path: Path) -> None:
    """Write the scores of one or more predictions as CSV; what is not defined stays empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = list(dict.fromkeys(name for one in evaluations.values() for name in one.metrics))
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow([*COLUMNS, *metrics])
        for masks, evaluation in evaluations.items():
            table.writerows(_rows(masks, evaluation, metrics))


def _rows(masks: str, evaluation: Evaluation, metrics: list[str]) -> Iterator[list[object]]:
    for case_id, classes in evaluation.cases.items():
        patient = evaluation.patients.get(case_id, case_id)
        for name, scores in classes.items():
            named = evaluation.names.get(name, name)
            yield [masks, case_id, patient, name, named, *(scores.get(m) for m in metrics)]
