import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.errors import AutosegError
from autoseg.images import formats
from autoseg.images.formats import (
    ENDINGS,
    FORMATS,
    count_channels,
    count_values,
    file_ending,
    files_of,
    format_of,
)
from autoseg.images.raw import Format, RawImage, nifti_header_of, place
from autoseg.images.volume import read_labels
from tests.images.made import BLOCK, itk_image, save_nifti

PACKAGE = Path(formats.__file__).parent.parent


def read_toy(path: Path) -> RawImage:
    """Numbers of two channels on one line."""
    array = np.array(path.read_text().split(), np.int16).reshape(-1, 1, 1, 2)
    return RawImage(array, place(path, array, np.eye(4)), nifti_header_of(np.eye(4)))


TOY = Format("toy", (".toy",), read_toy, side_files=lambda path: (path.with_suffix(".side"),))


@pytest.fixture
def toy_in_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, TOY))
    monkeypatch.setattr(formats, "ENDINGS", (*ENDINGS, *TOY.endings))


def test_each_ending_belongs_to_one_format() -> None:
    assert len(set(ENDINGS)) == len(ENDINGS)
    assert len({kind.name for kind in FORMATS}) == len(FORMATS)
    for kind in FORMATS:
        for ending in kind.endings:
            path = Path("folder.nii", f"SCAN{ending.upper()}")
            assert ending[0] == "." and ending == ending.lower()
            assert (format_of(path), file_ending(path)) == (kind, ending)


@pytest.mark.usefixtures("toy_in_table")
def test_a_line_in_the_table_is_all_that_a_format_needs(tmp_path: Path) -> None:
    for folder, text in {"images": "1 2 3 4", "labels": "0 1"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.toy").write_text(text)
    dataset = open_dataset(tmp_path)
    image, label = tmp_path / "images" / "a.toy", tmp_path / "labels" / "a.toy"
    image.with_suffix(".side").touch()
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert (count_channels(image), count_values(image)) == (2, 7)
    assert files_of(image) == (image, image.with_suffix(".side"))
    assert read_labels(label).array.tolist() == [[[0, 1]]]


def test_an_unknown_ending_is_told_what_is_known() -> None:
    with pytest.raises(AutosegError, match=r"unknown.*NIfTI \(\.nii\.gz, \.nii\), .*pictures \("):
        format_of(Path("scan.xyz"))


def test_voxels_in_a_file_beside_the_header_are_counted(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(BLOCK), str(tmp_path / "a.mhd"))
    assert count_values(tmp_path / "a.mhd") >= BLOCK.nbytes


def test_a_nifti_header_says_how_many_numbers_follow(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5, 2), np.uint8))
    assert (count_channels(path), count_values(path)) == (2, 120)
    path.write_bytes(b"damaged")
    assert count_values(path) == 0


def compared(node: ast.AST) -> Iterator[ast.AST]:
    """What a module compares with, or looks for at the end of names."""
    match node:
        case ast.Compare(left=left, comparators=others):
            yield from (left, *others)
        case ast.Call(func=ast.Attribute(attr="endswith" | "removesuffix"), args=args):
            yield from args


def texts(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return {text for element in node.elts for text in texts(element)}
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_no_module_asks_for_an_ending_of_its_own(path: Path) -> None:
    nodes = [part for node in ast.walk(ast.parse(path.read_text())) for part in compared(node)]
    assert not {text for node in nodes for text in texts(node)} & set(ENDINGS)
