from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.labels import LabelScheme
from autoseg.inspection.stored_labels import rescaling
from autoseg.pipeline.check import check_dataset


def scheme(highest: int) -> LabelScheme:
    values = tuple(range(highest + 1))
    return LabelScheme(values=values, names=tuple(map(str, values)))


@pytest.mark.parametrize(
    ("values", "highest", "factor"),
    [
        ([255], 1, "255,"),
        ([127, 255], 2, "255/2,"),
        ([128], 2, "255/2,"),
        ([85, 170, 255], 3, "255/3,"),
        ([65535], 1, "65535,"),
        ([80, 160], 2, "80,"),
    ],
)
def test_labels_that_were_stretched_to_be_seen_are_recognised(
    values: list[int], highest: int, factor: str
) -> None:
    assert f"look like labels multiplied by {factor}" in rescaling(values, scheme(highest))


@pytest.mark.parametrize(("values", "highest"), [([2], 1), ([7], 2), ([3, 255], 2), ([200], 1)])
def test_other_values_are_only_not_declared(values: list[int], highest: int) -> None:
    assert rescaling(values, scheme(highest)) == ""


def pictures(root: Path, ending: str, values: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    label = np.zeros((32, 32), np.uint8)
    label[8:20, 8:20] = values[0]
    label[12:16, 12:16] = values[-1]
    for case in "ab":
        image = rng.integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{case}.png")
        Image.fromarray(label).save(root / "labels" / f"{case}{ending}")
    (root / "dataset.json").write_text('{"labels": {"background": 0, "cell": 1, "core": 2}}')
    return root


def told(root: Path) -> str:
    report, _ = check_dataset(root, None, workers=1)
    return " ".join(problem.message() for problem in report.problems)


def test_check_says_that_labels_were_stretched(tmp_path: Path) -> None:
    assert "label values 127, 255, but the dataset declares 0, 1, 2; they look like labels" in told(
        pictures(tmp_path, ".png", (127, 255))
    )


def test_check_says_once_that_jpeg_is_no_format_for_labels(tmp_path: Path) -> None:
    text = told(pictures(tmp_path, ".jpg", (100, 200)))
    assert text.count("a.jpg: and 1 other label map are JPEG") == 1
