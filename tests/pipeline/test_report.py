import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.cli import main
from autoseg.evaluation.patients import Interval
from autoseg.evaluation.selection_record import (
    Postprocessing,
    SelectedMember,
    SelectedModel,
    Selection,
)
from autoseg.pipeline.report import ReportJob, gather, report_work
from autoseg.records import save_record
from autoseg.reporting.content import Selected
from autoseg.work_folder import WorkFolder
from tests.pipeline.tiny import plan_quickly, train, write_rules
from tests.reporting.pages import assert_stands_on_its_own, read_page


@pytest.fixture(scope="module")
def dataset(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, which may be moved away."""
    place = tmp_path_factory.mktemp("work") / "dataset"
    shutil.copytree(synthetic_dataset, place)
    return place


@pytest.fixture(scope="module")
def work(dataset: Path) -> WorkFolder:
    """Planned, and one of its folds trained and scored."""
    work = WorkFolder(dataset.parent / "autoseg_work")
    rules = write_rules(dataset.parent / "rules")
    plan_quickly(dataset, work, rules)
    train(work, fold=0)
    return work


def names_of(html: str) -> list[str]:
    sections = read_page(html).all("section")
    return [section.attributes["aria-labelledby"] or "" for section in sections]


def test_a_trained_fold_is_reported_with_its_scores_and_pictures(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out.html"
    assert main(["report", "--work", str(work.root), "--out", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    html = page.read_text(encoding="utf-8")
    assert_stands_on_its_own(html)
    assert names_of(html) == [
        "summary", "data", "plan", "reasons", "training", "scores", "volumes", "cases",
        "pictures", "origins",
    ]  # fmt: skip


def test_hashes_of_models_are_those_that_masks_name(work: WorkFolder) -> None:
    content = gather(work, work.plan(None))
    (fold,) = content.folds
    folder = work.fold(content.plan.name, content.plan.recommended, 0)
    line = folder.provenance.read_text().splitlines()[0]
    assert fold.model_hash is not None and fold.model_hash in line


def test_what_is_planned_alone_is_reported_in_the_work_folder(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    work = WorkFolder(tmp_path / "work")
    plan_quickly(synthetic_dataset, work, write_rules(tmp_path / "rules"))
    assert report_work(ReportJob(work=work.root)) == work.report
    html = work.report.read_text(encoding="utf-8")
    assert names_of(html) == ["summary", "data", "plan", "reasons", "origins"]
    assert "Nothing has been scored yet" in html


def test_without_the_data_set_there_are_no_pictures_and_it_says_so(
    work: WorkFolder, dataset: Path, tmp_path: Path
) -> None:
    moved = dataset.rename(dataset.parent / "elsewhere")
    try:
        page = report_work(ReportJob(work=work.root, out=tmp_path / "a.html"))
    finally:
        moved.rename(dataset)
    html = page.read_text(encoding="utf-8")
    assert "is not at" in html and "scores" in names_of(html)
    assert "Examples" not in html


def test_a_half_written_line_of_a_running_training_is_left_out(work: WorkFolder) -> None:
    folder = work.fold(work.plan(None).name, work.plan(None).recommended, 0)
    before = gather(work, work.plan(None)).folds[0].epochs
    text = folder.metrics.read_text()
    folder.metrics.write_text(f'{text}{{"epoch": 1')
    try:
        assert gather(work, work.plan(None)).folds[0].epochs == before
    finally:
        folder.metrics.write_text(text)
    assert np.isfinite(before[0].train_loss or np.nan)


def test_a_selection_is_shown_as_long_as_it_can_be_read_and_tells_what_changed(
    work: WorkFolder,
) -> None:
    model = SelectedModel(path="models/gone.safetensors", hash="0")
    member = SelectedMember(plan="tiny", configuration="2d", models=(model,))
    zero = Interval(low=0, high=0)
    corrected = Postprocessing(before=0, after=0, gain=0, gain_interval=zero, because="none helps")
    written = Selection(
        rules="autoseg", metric="dice", folds=(0,), cases=1, patients=1, candidates=(),
        members=(member,), because="it is best", postprocessing=corrected,
    )  # fmt: skip
    try:
        save_record(written, work.selection)
        found = gather(work, work.plan(None)).selected
        work.selection.write_text('{"metric": "dice"}')
        content = gather(work, work.plan(None))
    finally:
        work.selection.unlink()
    assert found == Selected(written, ("models/gone.safetensors is gone",))
    assert content.selected is None
    assert "Run `autoseg select` again" in content.remarks[0]
