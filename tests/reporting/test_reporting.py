"""Covers: charts, curves, mosaic."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.geometry import Grid
from autoseg.reporting.charts import COLOURS
from autoseg.reporting.curves import draw_progress, draw_trainings
from autoseg.reporting.mosaic import MaskedScan, cut_slices, draw_mosaic
from autoseg.training.metrics_log import EpochSummary


@pytest.fixture
def scan() -> MaskedScan:
    """Thick slices; the mask is two voxels off the reference."""
    image = np.random.default_rng(0).normal(size=(12, 30, 24)).astype(np.float32)
    mask = np.zeros((12, 30, 24), np.uint8)
    mask[3:9, 8:20, 6:18] = 1
    grid = Grid((12, 30, 24), np.diag([1.0, 1.0, 3.0, 1.0]))
    return MaskedScan(grid, image, mask, np.roll(mask, 2, axis=1))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def coloured(png: bytes, order: int) -> np.ndarray:
    """Where a mosaic has the colour of a class [row, column]."""
    found: np.ndarray = (pixels(png) == tuple(bytes.fromhex(COLOURS[order][1:]))).all(axis=-1)
    return found


def test_a_mosaic_outlines_the_classes(scan: MaskedScan) -> None:
    assert coloured(draw_mosaic(cut_slices("a", scan, {"organ": (1,)})), 0).any()
    assert not coloured(draw_mosaic(cut_slices("a", scan, {"other": (2,)})), 0).any()


def test_a_region_of_several_values_is_outlined_as_one(scan: MaskedScan) -> None:
    halves = scan.mask.copy()
    halves[:, 14:] *= 2
    parts = MaskedScan(scan.grid, scan.image, halves)
    whole = MaskedScan(scan.grid, scan.image, scan.mask)
    region = draw_mosaic(cut_slices("a", parts, {"all": (1, 2)}))
    np.testing.assert_array_equal(
        coloured(region, 0), coloured(draw_mosaic(cut_slices("a", whole, {"all": (1,)})), 0)
    )


def test_an_outline_lies_where_the_mask_ends(scan: MaskedScan) -> None:
    slices = cut_slices("a", MaskedScan(scan.grid, scan.image, scan.mask), {"organ": (1,)})
    rows, columns = np.nonzero(coloured(draw_mosaic(slices), 0)[:, :280])  # the first slice
    # 24 columns of 1 mm in 280 pixels; stored rows grow to anterior, which is up.
    assert columns.min() == pytest.approx((24 - 18) * 280 / 24, abs=1.5)
    assert columns.max() == pytest.approx((24 - 6) * 280 / 24 - 1, abs=1.5)
    assert rows.min() == pytest.approx((30 - 20) * 280 / 24, abs=1.5)
    assert rows.max() == pytest.approx((30 - 8) * 280 / 24 - 1, abs=1.5)


def test_slices_are_spread_over_what_either_map_labels(scan: MaskedScan) -> None:
    slices = cut_slices("a", scan, {"organ": (1,)})
    assert slices.numbers == (5, 6, 7, 8)  # of 3 to 8 counted from 0, from the head
    assert slices.total == 12


def test_references_are_dotted(scan: MaskedScan) -> None:
    solid = MaskedScan(scan.grid, scan.image, scan.mask)
    empty = np.zeros_like(scan.mask)
    dotted = MaskedScan(scan.grid, scan.image, empty, scan.mask)
    counts = [
        coloured(draw_mosaic(cut_slices("a", masked, {"organ": (1,)})), 0).sum()
        for masked in (solid, dotted)
    ]
    assert 0.4 < counts[1] / counts[0] < 0.6


def test_empty_masks_single_slices_and_masks_without_scans_are_drawn_too() -> None:
    image = np.random.default_rng(0).normal(size=(1, 30, 24)).astype(np.float32)
    grid, empty = Grid((1, 30, 24), np.eye(4)), np.zeros((1, 30, 24), np.uint8)
    for masked in (MaskedScan(grid, image, empty), MaskedScan(grid, None, empty, empty)):
        assert pixels(draw_mosaic(cut_slices("flat", masked, {"organ": (1,)}))).shape[1] == 280


def test_progress_is_drawn_whatever_is_missing(tmp_path: Path) -> None:
    row = {"elapsed_s": 60, "train_loss": 0.5, "validation_loss": None, "patch_dice": {"a": None}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    draw_progress(tmp_path / "metrics.jsonl", tmp_path / "progress.png")
    assert Image.open(tmp_path / "progress.png").size == (900, 400)


def test_folds_are_drawn_together_each_in_its_colour() -> None:
    epochs = [
        EpochSummary(
            epoch=i, iteration=9 * i, elapsed_s=60 * i, learning_rate=0.01, train_loss=-i / 9,
            validation_loss=None, patch_dice={"a": i / 9, "b": None},
        )
        for i in range(5)
    ]  # fmt: skip
    png = draw_trainings([("0", epochs), ("1", epochs[:3])])
    assert coloured(png, 0).sum() > 500
    assert coloured(png, 1).any()
