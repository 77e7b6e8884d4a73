"""Covers: charts, curves, mosaic, page, report."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.evaluation.evaluation import Evaluation
from autoseg.reporting.charts import COLOURS
from autoseg.reporting.curves import draw_progress
from autoseg.reporting.mosaic import MosaicScan, draw_mosaic
from autoseg.reporting.report import ReportContent, write_report


@pytest.fixture
def scan() -> MosaicScan:
    image = np.random.default_rng(0).normal(size=(12, 30, 24)).astype(np.float32)
    mask = np.zeros((12, 30, 24), np.uint8)
    mask[3:9, 8:20, 6:18] = 1
    return MosaicScan("scan <1>", image, mask, np.roll(mask, 2, axis=1), (3.0, 1.0, 1.0))


def colours_in(png: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}


def test_a_mosaic_outlines_the_classes(scan: MosaicScan) -> None:
    first = tuple(bytes.fromhex(COLOURS[0][1:]))
    assert first in colours_in(draw_mosaic(scan, [1]))
    assert first not in colours_in(draw_mosaic(scan, [2]))


def test_empty_masks_and_single_slices_are_drawn_too() -> None:
    image = np.random.default_rng(0).normal(size=(1, 30, 24)).astype(np.float32)
    empty = MosaicScan("flat", image, np.zeros((1, 30, 24), np.uint8), None, (1.0, 1.0, 1.0))
    assert Image.open(io.BytesIO(draw_mosaic(empty, [1]))).size[0] > 100


def test_the_report_stands_on_its_own(tmp_path: Path, scan: MosaicScan) -> None:
    score: dict[str, float | None] = {"dice": 0.876}
    evaluation = Evaluation(mean=score, classes={"1": score}, cases={"a": {"1": score}})
    content = ReportContent("Title", "Words.", evaluation, {"1": "<organ>"}, [scan], None)
    write_report(content, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "0.876" in html
    assert "&lt;organ&gt;" in html
    assert "data:image/png;base64," in html
    assert "http:" not in html and "https:" not in html


def test_progress_is_drawn_whatever_is_missing(tmp_path: Path) -> None:
    row = {"elapsed_s": 60, "train_loss": 0.5, "validation_loss": None, "patch_dice": {"a": None}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    draw_progress(tmp_path / "metrics.jsonl", tmp_path / "progress.png")
    assert Image.open(tmp_path / "progress.png").size == (900, 400)
