"""Covers: layouts.unrecognised."""

from pathlib import Path

import pytest

from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.errors import AutosegError
from tests.dataset.made_up import raw_dataset, save, touch


def refusal_of(folder: Path) -> str:
    with pytest.raises(AutosegError) as raised:
        open_dataset(folder)
    return str(raised.value)


def test_a_description_that_is_missing_is_printed_to_be_saved(tmp_path: Path) -> None:
    for case in "ab":
        for channel in range(2):
            save(tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii")
        save(tmp_path / "labelsTr" / f"{case}.nii", 0, 1, 4)
    message = refusal_of(tmp_path)
    assert "only dataset.json is missing" in message
    (tmp_path / "dataset.json").write_text(message.splitlines()[-1])
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None
    assert (len(dataset.cases), len(dataset.channel_names)) == (2, 2)
    assert dataset.labels.values == (0, 1, 4)


def test_folders_around_a_dataset_say_where_it_is(tmp_path: Path) -> None:
    data = raw_dataset(tmp_path / "outer" / "data", "a")
    assert refusal_of(tmp_path / "outer").endswith(f"one folder deeper. Give {data}.")
    assert refusal_of(data / "imagesTr").endswith(f"a part of a dataset. Give its folder, {data}.")
    raw_dataset(tmp_path / "outer" / "more", "a")
    assert "holds several datasets: data, more. Give one" in refusal_of(tmp_path / "outer")


def test_a_folder_of_images_alone_says_what_to_add(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    assert "holds 2 images, but not what to learn from them" in refusal_of(tmp_path)
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")  # as it says
    assert len(open_dataset(tmp_path).cases) == 1


@pytest.mark.parametrize("names", [("images", "Masks"), ("Images", "labels"), ("imgs", "gt")])
def test_folders_that_are_called_otherwise_are_to_be_renamed(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    touch(tmp_path, *(f"{name}/a.nii.gz" for name in names))
    message = refusal_of(tmp_path)
    for there, expected in zip(names, ("images", "labels"), strict=True):
        assert there == expected or f"{there}/ to {expected}/" in message
        (tmp_path / there).rename(tmp_path / expected)
    assert len(open_dataset(tmp_path).cases) == 1


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a")
    (tmp_path / "imagesTr").rename(tmp_path / "elsewhere")
    assert "labelsTr/ is here, but not imagesTr/" in refusal_of(tmp_path)
