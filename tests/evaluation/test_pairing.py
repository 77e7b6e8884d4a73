from pathlib import Path

import pytest

from autoseg.errors import AutosegError
from autoseg.evaluation.pairing import pair_masks


def folder(root: Path, *names: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    "twins", [("a.nii.gz", "a.nrrd"), ("caf\u00e9.nii.gz", "cafe\u0301.nii.gz")]
)
def test_two_files_of_one_case_are_refused_on_either_side(
    tmp_path: Path, twins: tuple[str, str]
) -> None:
    many, one = folder(tmp_path / "many", *twins), folder(tmp_path / "one", twins[0])
    for sides in ((many, one), (one, many)):
        with pytest.raises(AutosegError) as refused:
            pair_masks(*sides)
        assert all(name in str(refused.value) for name in twins)


def test_names_in_different_unicode_forms_are_one(tmp_path: Path) -> None:
    masks = folder(tmp_path / "masks", "caf\u00e9.nii.gz")
    truth = folder(tmp_path / "truth", "cafe\u0301.nii.gz")
    assert len(pair_masks(masks, truth).pairs) == 1


def test_two_files_are_one_case_whatever_they_are_called(tmp_path: Path) -> None:
    place = folder(tmp_path, "mask.nii.gz", "truth.nrrd")
    pairing = pair_masks(place / "mask.nii.gz", place / "truth.nrrd")
    assert pairing.pairs == {"mask": (place / "mask.nii.gz", place / "truth.nrrd")}


def test_a_file_is_looked_for_in_a_folder(tmp_path: Path) -> None:
    masks, truth = folder(tmp_path / "m", "a.nii.gz"), folder(tmp_path / "t", "a.nii.gz", "b.nrrd")
    pairing = pair_masks(masks / "a.nii.gz", truth)
    assert pairing.pairs == {"a": (masks / "a.nii.gz", truth / "a.nii.gz")}


@pytest.mark.parametrize("given", ["data", "data/imagesTr"])
def test_of_a_dataset_the_folder_of_masks_is_named(tmp_path: Path, given: str) -> None:
    masks = folder(tmp_path / "masks", "a.nii.gz")
    folder(tmp_path / "data" / "imagesTr", "a_0000.nii.gz")
    labels = folder(tmp_path / "data" / "labelsTr", "a.nii.gz")
    with pytest.raises(AutosegError, match=f"masks are in {labels}"):
        pair_masks(masks, tmp_path / given)


def test_tables_and_pictures_beside_volumes_are_no_masks(tmp_path: Path) -> None:
    masks = folder(tmp_path / "m", "a.nii.gz", "summary.json", "a.png", "overview.png")
    pairing = pair_masks(masks, folder(tmp_path / "t", "a.nii.gz"))
    assert list(pairing.pairs) == ["a"]
    assert "2 pictures beside volumes left out" in pairing.notes[0]


def test_pictures_alone_are_masks_but_not_those_that_jpeg_changed(tmp_path: Path) -> None:
    masks, truth = folder(tmp_path / "m", "a.png"), folder(tmp_path / "t", "a.png")
    assert len(pair_masks(masks, truth).pairs) == 1
    with pytest.raises(AutosegError, match=r"b\.jpg: JPEG changes the values"):
        pair_masks(folder(tmp_path / "j", "b.jpg"), truth)


def test_what_is_absent_on_both_sides_is_said_together(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match=r"(?s)2 problems.*one: there is no.*two: there is no"):
        pair_masks(tmp_path / "one", tmp_path / "two")


def test_segmentations_of_3d_slicer_are_references(tmp_path: Path) -> None:
    masks, truth = folder(tmp_path / "m", "a.nii.gz"), folder(tmp_path / "t", "a.seg.nrrd")
    assert pair_masks(masks, truth).pairs == {"a": (masks / "a.nii.gz", truth / "a.seg.nrrd")}
