"""Covers: content, page, ranking, score_charts, sections.cases, sections.origins, sections.scores,
sections.selection, sections.summary, sections.training, sections.volumes, style, tables.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import Score
from autoseg.evaluation.pooling import pool_folds
from autoseg.geometry import Grid
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.reporting.content import (
    Candidate,
    ReportContent,
    Scored,
    SelectionContent,
    TrainedFold,
)
from autoseg.reporting.mosaic import MaskedScan, cut_slices
from autoseg.reporting.ranking import telling_cases
from autoseg.reporting.report import SECTIONS, write_report
from autoseg.reporting.score_charts import agreement_of
from autoseg.reporting.tables import number
from tests.reporting.pages import Element, assert_stands_on_its_own, read_page, table_rows
from tests.reporting.test_dataset_report import planned

ODD = "<b>tumour</b>"


def score(dice: float | None, predicted_ml: float, reference_ml: float) -> Score:
    return {"dice": dice, "volume_ml": predicted_ml, "reference_volume_ml": reference_ml}


def evaluation_of(cases: dict[str, dict[str, Score]]) -> Evaluation:
    keys, names = next(iter(cases.values())), {"1": "organ", "2": ODD}
    classes: dict[str, Score] = {key: {} for key in keys}
    return pool_folds([Evaluation(mean={}, classes=classes, cases=cases, names=names)], {})


@pytest.fixture
def evaluation() -> Evaluation:
    """Ten cases of rising Dice; the first has no tumour in either map."""
    return evaluation_of(
        {
            f"case_{i}": {
                "1": score(0.5 + i / 20, 10 + i, 11 + i),
                "2": score(i / 10, 2.0, 3.0 + i % 2) if i else score(None, 0.0, 0.0),
            }
            for i in range(10)
        }
    )


@pytest.fixture(scope="module")
def planned_only(synthetic_dataset: Path) -> ReportContent:
    fingerprint = make_fingerprint(open_dataset(synthetic_dataset), workers=1)
    return ReportContent("T", "Asked.", planned(fingerprint), fingerprint)


@pytest.fixture
def content(planned_only: ReportContent, evaluation: Evaluation) -> ReportContent:
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[2:4, 5:15, 5:15] = 1
    scan = MaskedScan(Grid((6, 20, 20), np.eye(4)), labels.astype(np.float32), labels, labels)
    mosaic = cut_slices(f"worst: {ODD}", scan, {"1": (1,), "2": (2,)})
    scored = Scored("2d", "10 held-out cases", evaluation, [mosaic])
    folds = [TrainedFold("2d", "0", (), (f"{ODD} changed",), "0123abcd", "9.9.9")]
    return replace(
        planned_only, folds=folds, scored=[scored], answer=scored, made_on=[("torch", "2.0")]
    )


def render(content: ReportContent, folder: Path) -> str:
    write_report(content, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def section(html: str, name: str) -> Element:
    (found,) = [
        s for s in read_page(html).all("section") if s.attributes["aria-labelledby"] == name
    ]
    return found


def test_a_report_stands_on_its_own(content: ReportContent, tmp_path: Path) -> None:
    html = render(content, tmp_path)
    assert_stands_on_its_own(html)
    assert "http:" not in html and "https:" not in html
    assert html.count("data:image/png") == 6


def test_sections_without_content_are_not_there(planned_only: ReportContent) -> None:
    made = [make(planned_only) for make in SECTIONS]
    assert [s.name for s in made if s] == ["summary", "data", "plan", "reasons", "origins"]


def test_names_are_escaped_wherever_scores_and_pictures_show_them(
    content: ReportContent, tmp_path: Path
) -> None:
    html = render(content, tmp_path)
    assert ODD not in html
    for name in ("summary", "training", "scores", "volumes", "cases", "pictures"):
        assert ODD in section(html, name).text, name


def test_only_the_script_of_the_page_may_run(content: ReportContent, tmp_path: Path) -> None:
    from base64 import b64encode
    from hashlib import sha256

    html = render(content, tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_the_table_of_cases_lists_each_with_the_worst_first(
    content: ReportContent, tmp_path: Path
) -> None:
    (table,) = section(render(content, tmp_path), "cases").all("table")
    rows = table_rows(table)
    assert rows[0] == ["case_1", "0.325", "0.550", "0.100"]  # the mean of both classes
    assert rows[-1] == ["case_9", "0.925", "0.950", "0.900"]
    assert ["case_0", "0.500", "0.500", "–"] in rows  # noqa: RUF001
    assert "sortable" in (table.attributes["class"] or "")


def test_the_best_the_median_and_the_worst_case_are_found(evaluation: Evaluation) -> None:
    titles = telling_cases(evaluation)
    assert list(titles) == ["case_9", "case_4", "case_1"]
    assert titles["case_1"] == "worst: case_1, mean Dice 0.325"
    alone = evaluation_of({"a": {"1": score(0.5, 1, 1)}})
    assert list(telling_cases(alone)) == ["a"]


def test_scores_have_intervals_and_say_what_was_missed(
    content: ReportContent, tmp_path: Path
) -> None:
    part = section(render(content, tmp_path), "scores")
    found = content.scored[0].evaluation.statistics["1"]["dice"]
    assert found.mean is not None and found.interval_95 is not None
    low, high = found.interval_95
    organ, tumour = table_rows(part.all("table")[0])
    mean = f"{found.mean:.3f} [{low:.3f}, {high:.3f}]"
    assert organ[:3] == ["organ", "10", mean] and organ[6:] == ["0", "0", "0"]
    spread = np.percentile([0.5 + i / 20 for i in range(10)], (50, 5, 95))
    assert [float(text) for text in organ[3:6]] == pytest.approx(spread, abs=6e-4)
    assert tumour[:2] == [ODD, "9"] and tumour[6:] == ["0", "0", "1"]  # case_0 has it in neither
    assert f"{low:.3f} to {high:.3f}" in section(render(content, tmp_path), "summary").text


def test_volumes_agree_as_bland_and_altman_say(evaluation: Evaluation) -> None:
    organ, tumour = agreement_of(Scored("2d", "", evaluation))
    assert organ.bias_ml == pytest.approx(-1)
    assert organ.limits_ml == pytest.approx((-1, -1))
    differences = [2.0 - (3 + i % 2) for i in range(1, 10)]  # case_0 has no tumour
    assert tumour.bias_ml == pytest.approx(np.mean(differences))
    reach = 1.96 * np.std(differences, ddof=1)
    assert tumour.limits_ml == pytest.approx((np.mean(differences) - reach,
                                              np.mean(differences) + reach))  # fmt: skip


def test_numbers_are_sorted_by_their_value_and_not_their_text() -> None:
    assert (number(1234.5, ",.0f").text, number(1234.5, ",.0f").value) == ("1,234", 1234.5)
    assert number(None).value == ""  # missing, so last


def test_hundreds_of_cases_stay_below_a_few_megabytes(
    content: ReportContent, tmp_path: Path
) -> None:
    cases = {
        f"case_{i}": {"1": score(i / 200, 5.0, 6.0), "2": score(1 - i / 200, 7.0, 8.0)}
        for i in range(200)
    }
    scored = Scored("2d", "200 cases", evaluation_of(cases))
    html = render(replace(content, scored=[scored]), tmp_path)
    assert len(html) < 2**21


def test_a_selection_lists_candidates_with_their_cost_and_steps_with_their_gain(
    content: ReportContent, tmp_path: Path
) -> None:
    candidates = [
        Candidate("cpu/2d", 0.81, (0.8, 0.82), 0.0, 0.125),
        Candidate(ODD, 0.8, (0.79, 0.81), 0.01, 2.0),
    ]
    selection = SelectionContent("cpu/2d", "it is best", "dice", candidates, "it gains",
                                 [("holes filled", 0.004)])  # fmt: skip
    part = section(render(replace(content, selection=selection), tmp_path), "selection")
    listed, steps = (table_rows(table) for table in part.all("table"))
    assert listed[0] == ["cpu/2d (chosen)", "0.8100 [0.8000, 0.8200]", "0.0000", "0.12"]
    assert listed[1][0] == ODD
    assert steps == [["holes filled", "+0.0040"]]
