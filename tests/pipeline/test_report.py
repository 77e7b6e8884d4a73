import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.cli import main
from autoseg.pipeline.report import ReportJob, gather, report_work
from autoseg.records import save_json
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


def test_what_was_selected_is_read_with_its_candidates(work: WorkFolder) -> None:
    scored = {"members": ["tiny/2d", "tiny/3d_fullres"], "score": 0.8, "gap": 0.0, "seconds": 0.5}
    written = {
        "metric": "dice",
        "because": "it is best",
        "candidates": [scored | {"interval": {"low": 0.7, "high": 0.9}}],
        "members": [{"plan": "tiny", "configuration": c} for c in ("2d", "3d_fullres")],
        "postprocessing": {
            "because": "it gains",
            "steps": [{"what": "holes filled", "gain": 0.1}],
            "left_off": ["tumour: in too few cases"],
        },
        "notes": [],
    }
    path = work.root / "selection.json"
    save_json(written, path)
    try:
        found = gather(work, work.plan(None)).selection
    finally:
        path.unlink()
    assert found is not None and found.chosen == found.candidates[0].name == (
        "tiny/2d + tiny/3d_fullres"
    )
    assert found.candidates[0].interval == (0.7, 0.9)
    assert (found.steps, found.notes) == ([("holes filled", 0.1)], ["tumour: in too few cases"])
