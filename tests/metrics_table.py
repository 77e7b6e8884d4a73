"""The table of docs/evaluation.md: what each metric is, and what it gives of empty masks.

    python -m tests.metrics_table

writes it anew; a test fails while it is not what it should be.
"""

from pathlib import Path

from autoseg.evaluation.evaluation import metric_notes
from autoseg.evaluation.metrics import METRICS

PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
BEGIN, END = "<!-- made by tests/metrics_table.py -->\n", "<!-- end -->\n"
HEADINGS = ("metric", "formula", "unit", "best", "in neither mask", "in one alone", "penalty")


def rendered() -> str:
    """The table in Markdown, from the table of the program."""
    lines = [_row(HEADINGS), _row(["---"] * len(HEADINGS))]
    for name, note in metric_notes(tuple(METRICS)).items():
        rules = (note.both_empty, note.one_empty, note.penalty)
        shown = [f"{rule:g}" if isinstance(rule, float) else rule for rule in rules]
        formula = f"{note.formula}{' (pooled)' if note.pooled else ''}".replace("|", "\\|")
        lines.append(_row([f"`{name}`", formula, note.unit, note.better or "", *shown]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + rendered() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
