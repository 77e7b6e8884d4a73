import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.cli import main
from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.labels import LabelScheme, Region
from autoseg.images.volume import read_labels
from autoseg.pipeline.pictures import PictureWriter, classes_of, declared_classes, find_scans
from autoseg.reporting.charts import COLOURS
from tests.inference.model_files import small_configuration, write_model

FIRST = tuple(bytes.fromhex(COLOURS[0][1:]))


def has_outline(picture: Path) -> bool:
    pixels = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
    return bool((pixels == FIRST).all(axis=-1).any())


@pytest.fixture
def masks(synthetic_dataset: Path, tmp_path: Path) -> Path:
    """Two cases whose masks are their references."""
    for name in ("case_000", "case_001"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        shutil.copy(synthetic_dataset / "labelsTr" / f"{name}.nii.gz", tmp_path / "masks")
    return tmp_path / "masks"


def test_evaluate_draws_each_mask_beside_it(
    masks: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = str(synthetic_dataset / "labelsTr")
    assert main(["evaluate", str(masks), truth, "--pictures", "--workers", "1"]) == 0
    pictures = sorted((masks / "pictures").iterdir())
    assert [p.name for p in pictures] == ["case_000.png", "case_001.png"]
    assert all(has_outline(picture) for picture in pictures)
    assert "outlines alone" not in capsys.readouterr().err


def test_without_scans_outlines_are_drawn_alone_and_a_note_says_so(
    masks: Path, synthetic_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(synthetic_dataset / "labelsTr", truth)
    assert main(["evaluate", str(masks), str(truth), "--pictures", "--workers", "1"]) == 0
    assert has_outline(masks / "pictures" / "case_000.png")
    assert "2 of 2 pictures show outlines alone" in capsys.readouterr().err


def test_scans_are_found_beside_references_or_where_they_are_said_to_be(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    images = synthetic_dataset / "imagesTr"
    expected = {f"case_00{i}": images / f"case_00{i}_0000.nii.gz" for i in range(6)}
    assert find_scans(synthetic_dataset / "labelsTr", None) == expected
    assert find_scans(tmp_path, images) == expected
    assert find_scans(tmp_path, None) == {}


def test_predict_draws_its_masks(synthetic_dataset: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.safetensors", small_configuration())
    scan = synthetic_dataset / "imagesTr" / "case_000_0000.nii.gz"
    words = ["predict", str(scan), str(tmp_path / "out"), "--pictures", "--model"]
    assert main([*words, str(tmp_path / "model.safetensors"), "--engine", "torch"]) == 0
    assert (tmp_path / "out" / "pictures" / "case_000.png").is_file()


def test_a_picture_that_cannot_be_drawn_is_no_failure(
    masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case("case_000", (ChannelSource(tmp_path / "gone.nii.gz"),), None, "case_000")
    writer = PictureWriter(tmp_path / "pictures", {"organ": (1,)})
    writer.write(case, read_labels(masks / "case_000.nii.gz"))
    assert "no picture of its mask could be drawn" in caplog.text


def test_regions_are_outlined_as_they_are_scored() -> None:
    regions = (Region(name="all", values=(1, 2)), Region(name="core", values=(2,)))
    labels = LabelScheme(values=(0, 1, 2), names=("background", "a", "b"), regions=regions,
                         region_order=(1, 2))  # fmt: skip
    assert declared_classes(labels) == {"all": (1, 2), "core": (2,)}
    assert classes_of(labels, ["core"]) == {"core": (2,)}
    assert classes_of(None, ["7"]) == {"7": (7,)}
