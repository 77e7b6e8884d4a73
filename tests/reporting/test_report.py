"""Covers: content, page, ranking, score_charts, sections.cases, sections.failure_signs,
sections.origins, sections.reliability, sections.scores, sections.selection, sections.summary,
sections.training, sections.volumes, style, tables, evaluation.selection_record.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.evaluation.calibration import Reliability
from autoseg.evaluation.evaluation import Evaluation
from autoseg.evaluation.metrics import Score
from autoseg.evaluation.patients import Interval
from autoseg.evaluation.pooling import pool_folds
from autoseg.evaluation.selection import ScoredCandidate
from autoseg.evaluation.selection_record import (
    Postprocessing,
    ReportedStep,
    SelectedMember,
    Selection,
)
from autoseg.geometry import Grid
from autoseg.inspection.fingerprint import make_fingerprint
from autoseg.postprocessing.quality import ClassQuality, QualityModel
from autoseg.postprocessing.steps import Holes
from autoseg.reporting.content import (
    ReportContent,
    Scored,
    Selected,
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def page(content: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of all that a report may hold."""
    return render(content, tmp_path_factory.mktemp("page"))


def render(content: ReportContent, folder: Path) -> str:
    write_report(content, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def section(html: str, name: str) -> Element:
    (found,) = [
        s for s in read_page(html).all("section") if s.attributes["aria-labelledby"] == name
    ]
    return found


def test_a_report_stands_on_its_own(page: str) -> None:
    assert_stands_on_its_own(page)
    assert "http:" not in page and "https:" not in page
    assert page.count("data:image/png") == 6


def test_sections_without_content_are_not_there(planned_only: ReportContent) -> None:
    made = [make(planned_only) for make in SECTIONS]
    assert [s.name for s in made if s] == ["summary", "data", "plan", "reasons", "origins"]


def test_names_are_escaped_wherever_scores_and_pictures_show_them(page: str) -> None:
    assert ODD not in page
    for name in ("summary", "training", "scores", "volumes", "cases", "pictures"):
        assert ODD in section(page, name).text, name


def test_only_the_script_of_the_page_may_run(page: str) -> None:
    from base64 import b64encode
    from hashlib import sha256

    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_the_table_of_cases_lists_each_with_the_worst_first(page: str) -> None:
    (table,) = section(page, "cases").all("table")
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


def test_scores_have_intervals_and_say_what_was_missed(content: ReportContent, page: str) -> None:
    part = section(page, "scores")
    found = content.scored[0].evaluation.statistics["1"]["dice"]
    assert found.mean is not None and found.interval_95 is not None
    low, high = found.interval_95
    organ, tumour = table_rows(part.all("table")[0])
    mean = f"{found.mean:.3f} [{low:.3f}, {high:.3f}]"
    assert organ[:3] == ["organ", "10", mean] and organ[6:] == ["0", "0", "0"]
    spread = np.percentile([0.5 + i / 20 for i in range(10)], (50, 5, 95))
    assert [float(text) for text in organ[3:6]] == pytest.approx(spread, abs=6e-4)
    assert tumour[:2] == [ODD, "9"] and tumour[6:] == ["0", "0", "1"]  # case_0 has it in neither
    assert f"{low:.3f} to {high:.3f}" in section(page, "summary").text


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


def candidate(member: str, score: float, gap: float, seconds: float) -> ScoredCandidate:
    interval = Interval(low=score - 0.01, high=score + 0.01)
    return ScoredCandidate(members=(member,), score=score, standard_error=0.01, interval=interval,
                           classes={}, gap=gap, gap_interval=interval, seconds=seconds)  # fmt: skip


@pytest.fixture
def selection() -> Selection:
    """A single configuration with one step, of which no more is known."""
    step = ReportedStep(
        step=Holes(of="organ", values=(1,), becomes=1), what="holes filled", gain=0.004
    )
    interval = Interval(low=0, high=0.01)
    return Selection(
        rules="autoseg", metric="dice", folds=(0,), cases=10, patients=10, because="it is best",
        candidates=(candidate("cpu/2d", 0.81, 0.0, 0.125), candidate(ODD, 0.8, 0.01, 2.0)),
        members=(SelectedMember(plan="cpu", configuration="2d", models=()),),
        postprocessing=Postprocessing(steps=(step,), before=0.8, after=0.804, gain=0.004,
                                      gain_interval=interval, because="it gains"),
    )  # fmt: skip


def test_a_selection_lists_candidates_with_their_cost_and_steps_with_their_gain(
    content: ReportContent, selection: Selection, tmp_path: Path
) -> None:
    html = render(replace(content, selected=Selected(selection)), tmp_path)
    part = section(html, "selection")
    listed, steps = (table_rows(table) for table in part.all("table"))
    assert listed[0] == ["cpu/2d (chosen)", "0.8100 [0.8000, 0.8200]", "0.0000", "0.12"]
    assert listed[1][0] == ODD
    assert steps == [["holes filled", "+0.0040"]]
    assert "not followed" not in part.text
    assert not {"failure-signs", "reliability"} & {
        found.attributes["aria-labelledby"] for found in read_page(html).all("section")
    }


def test_a_selection_of_other_models_says_so(
    content: ReportContent, selection: Selection, tmp_path: Path
) -> None:
    selected = Selected(selection, ("a/model.safetensors is gone",))
    part = section(render(replace(content, selected=selected), tmp_path), "selection")
    assert "it is not followed" in part.text and "a/model.safetensors is gone" in part.text


def test_failure_signs_have_the_range_of_nine_of_ten_masks(
    content: ReportContent, selection: Selection, tmp_path: Path
) -> None:
    organ = ClassQuality(
        name=ODD, intercept=0.0, slope=1.0, error=0.04, error_spoilt=None,
        residuals_90=(-np.log(2), np.log(3)), usual=0.8, doubtful_below=0.7, present_share=0.955,
        cases=40,
    )  # fmt: skip
    learned = selection.model_copy(update={"quality": QualityModel(classes=(organ,), folds=5)})
    html = render(replace(content, selected=Selected(learned)), tmp_path)
    part = section(html, "failure-signs")
    # Odds of 4, which are halved or tripled.
    expected = [ODD, "40", "96%", "0.800", f"{2 / 3:.3f} to {12 / 13:.3f}", "0.040", "–", "0.700"]  # noqa: RUF001
    assert table_rows(part.all("table")[0]) == [expected]
    assert "the other folds" in part.text


def test_reliability_is_drawn_beside_its_calibration_error(
    content: ReportContent, selection: Selection, tmp_path: Path
) -> None:
    """Two bins of 10 voxels: of 0.1 in the mean none has the class, and of 0.9 eight have."""
    counts = np.zeros((3, 15))
    counts[:, 1], counts[:, 13] = (10, 1, 0), (10, 9, 8)
    known = (Reliability.of(ODD, counts), Reliability.of("never", np.zeros((3, 15))))
    measured = selection.model_copy(update={"reliability": known})
    html = render(replace(content, selected=Selected(measured)), tmp_path)
    part = section(html, "reliability")
    assert table_rows(part.all("table")[0]) == [[ODD, "20", "0.500", "0.400", "0.1000"]]
    assert len(part.all("img")) == 1
    assert_stands_on_its_own(html)
