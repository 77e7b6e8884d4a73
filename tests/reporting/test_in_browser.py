"""A report of a real, if short, training as a browser shows it."""

from pathlib import Path

import pytest

from autoseg.inference import ways
from autoseg.pipeline.report import ReportJob, report_work
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder
from tests.pipeline.tiny import plan_quickly, train, write_rules
from tests.reporting.chromium import opened

FIRST_COLUMN = """[...document.querySelectorAll("#cases ~ div table tbody tr")]
    .map(row => row.cells[{column}].dataset.value ?? row.cells[{column}].textContent)"""
BUTTON = 'document.querySelectorAll("#cases ~ div table th button")[{column}]'


@pytest.fixture(scope="module")
def page(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    work = WorkFolder(folder / "autoseg_work")
    plan_quickly(synthetic_dataset, work, write_rules(folder / "rules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "is_installed", lambda: False)  # it takes longer to compile
        for fold in (0, 1):
            train(work, fold=fold, budget=Budget(iterations=4))
    return report_work(ReportJob(work=work.root))


@pytest.mark.slow
def test_a_report_opens_without_errors_and_its_tables_sort(page: Path, tmp_path: Path) -> None:
    with opened(page, tmp_path / "profile") as tab:
        assert tab.value("document.images.length") >= 7
        assert tab.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.value("performance.getEntriesByType('resource')"
                         ".every(r => r.name.startsWith('data:'))")  # fmt: skip
        before = [float(v) for v in tab.value(FIRST_COLUMN.format(column=1))]
        tab.value(f"{BUTTON.format(column=1)}.click()")
        rising = [float(v) for v in tab.value(FIRST_COLUMN.format(column=1))]
        tab.value(f"{BUTTON.format(column=1)}.focus()")
        tab.press("Enter")
        falling = [float(v) for v in tab.value(FIRST_COLUMN.format(column=1))]
        assert rising == sorted(before) and len(rising) > 1
        assert falling == rising[::-1]
        head = f"{BUTTON.format(column=1)}.closest('th')"
        assert tab.value(f"{head}.getAttribute('aria-sort')") == "descending"
        assert tab.errors == []


@pytest.mark.slow
def test_numbers_sort_as_numbers_and_what_is_missing_goes_last(page: Path, tmp_path: Path) -> None:
    values = '["10", "9", "", "-1.5", "0.25"]'
    fill = f"""{{ const rows = [...document.querySelectorAll("#training ~ div tbody tr")];
        const body = rows[0].parentNode;
        while (body.rows.length) body.deleteRow(0);
        for (const value of {values}) {{
            const cell = body.insertRow().insertCell(); cell.dataset.value = value; }} }}"""
    button = 'document.querySelector("#training ~ div th button")'
    read = '[...document.querySelectorAll("#training ~ div tbody td")].map(c => c.dataset.value)'
    with opened(page, tmp_path / "profile") as tab:
        tab.value(fill)
        tab.value(f"{button}.click()")
        assert tab.value(read) == ["-1.5", "0.25", "9", "10", ""]
        tab.value(f"{button}.click()")
        assert tab.value(read) == ["10", "9", "0.25", "-1.5", ""]


@pytest.mark.slow
def test_what_is_folded_is_opened_for_printing(page: Path, tmp_path: Path) -> None:
    with opened(page, tmp_path / "profile") as tab:
        closed = '[...document.querySelectorAll("details")].filter(d => !d.open).length'
        assert tab.value(closed) > 20
        tab.value('dispatchEvent(new Event("beforeprint"))')
        assert tab.value(closed) == 0
