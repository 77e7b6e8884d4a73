"""docs/evaluation.md says what metrics there are, and it is true."""

import json
import re
import shlex

from autoseg.cli.arguments import make_parser
from tests.metrics_table import BEGIN, END, PAGE, rendered


def test_the_page_shows_every_metric() -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == rendered(), "run `python -m tests.metrics_table`"


def test_the_commands_of_the_page_can_be_typed() -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        assert make_parser().parse_args(words[1:]).verb == "evaluate"


def test_the_page_shows_the_measured_intervals() -> None:
    results = PAGE.parents[1] / "benchmarks" / "results" / "intervals.json"
    page = PAGE.read_text()
    for row in json.loads(results.read_text()):
        if row["patients"] in (10, 30, 100):
            found = [
                ", ".join(f"{row[method][key]:.3f}" for key in ("holds", "too_low", "too_high"))
                for method in ("percentile", "bca")
            ]
            assert f"| {row['patients']} | {found[0]} | {found[1]} |" in page
