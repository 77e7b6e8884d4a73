from functools import partial
from pathlib import Path

import nibabel as nib
import pytest

from autoseg.cli import main
from autoseg.dataset.synthetic import make_scan, write_dataset
from autoseg.pipeline import demo
from tests.reporting.pages import assert_stands_on_its_own

SHAPE_VOX = (20, 18, 8)


def test_the_demo_goes_from_scans_to_a_report_with_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TRAINING_SCANS", 4)
    monkeypatch.setattr(demo, "UNSEEN_SCANS", 1)
    monkeypatch.setattr(demo, "write_dataset", partial(write_dataset, shape_vox=SHAPE_VOX))
    monkeypatch.setattr(demo, "make_scan", partial(make_scan, shape_vox=SHAPE_VOX))
    folder = tmp_path / "demo"
    assert main(["demo", str(folder), "--minutes", "0.02"]) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert_stands_on_its_own(page)
    assert "scan_0" in page and "scans that the network never saw" in page
    mask, scan = (nib.load(folder / part / "scan_0.nii.gz") for part in ("masks", "scans"))
    assert mask.shape == scan.shape


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    assert main(["demo", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
