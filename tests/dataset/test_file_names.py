"""File names that are nearly right.

Covers: layouts.nnunet_images, layouts.pairing, layouts.folder_files.
"""

import subprocess
import unicodedata
from pathlib import Path

import pytest

from autoseg.dataset.layouts.recognition import open_dataset, survey_dataset
from autoseg.errors import AutosegError
from tests.dataset.made_up import cases_of, describe, found_in, raw_dataset, said, touch


def test_endings_are_compared_without_case(tmp_path: Path) -> None:
    describe(tmp_path, file_ending=".NII.gz")
    touch(tmp_path, "imagesTr/a_0000.NII.GZ", "labelsTr/a.Nii.Gz", "imagesTr/b_0000.nii.gz")
    touch(tmp_path, "labelsTr/b.NII.GZ", "imagesTs/t_0000.NII.GZ")
    dataset, problems = survey_dataset(tmp_path)
    assert [case.case_id for case in (*dataset.cases, *dataset.test_cases)] == ["a", "b", "t"]
    assert problems == []


def test_one_other_ending_of_all_images_is_taken_and_said(tmp_path: Path) -> None:
    describe(tmp_path)
    touch(tmp_path, *(f"imagesTr/{case}_0000.nii" for case in "abc"))
    touch(tmp_path, *(f"labelsTr/{case}.nii" for case in "abc"))
    message = "holds 3 images that end in .nii, but file_ending is .nii.gz. They are taken"
    assert message in said(tmp_path)["file_ending"]
    assert cases_of(tmp_path) == ["a", "b", "c"]
    describe(tmp_path, file_ending=".nii")  # what the message says to write
    assert found_in(tmp_path) == []


def test_several_other_endings_are_counted_and_refused(tmp_path: Path) -> None:
    describe(tmp_path)
    touch(tmp_path, "imagesTr/a_0000.nii", "imagesTr/b_0000.nii", "imagesTr/c_0000.nrrd")
    message = "holds 2 images that end in .nii and 1 image that ends in .nrrd, but file_ending is"
    with pytest.raises(AutosegError, match=message):
        open_dataset(tmp_path)


def test_an_image_of_another_ending_is_named_and_its_label_is_not(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", "b")
    stray = tmp_path / "imagesTr" / "c_0000.nii"
    touch(tmp_path, "imagesTr/c_0000.nii", "labelsTr/c.nii.gz")
    (problem,) = found_in(tmp_path)
    assert (problem.kind, problem.file) == ("other_ending", str(stray))
    assert "Save it as c_0000.nii.gz" in problem.fix
    stray.rename(tmp_path / "imagesTr" / "c_0000.nii.gz")
    assert found_in(tmp_path) == []


def test_files_that_nothing_is_made_of_are_named(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a")
    touch(tmp_path, "imagesTr/notes.docx", "imagesTs/t_0000.nii.gz", "imagesTs/u_0000.nrrd")
    touch(tmp_path, "imagesTr/a_0000.json", "imagesTr/._a_0000.nii.gz", "labelsTs/v.nii.gz")
    messages = " ".join(problem.message() for problem in found_in(tmp_path))
    assert {problem.kind for problem in found_in(tmp_path)} == {"unused_file"}
    assert "holds one that is no image by its name: notes.docx" in messages
    assert "u_0000.nrrd: ends in .nrrd" in messages
    assert "v.nii.gz is not called as any case is" in messages


def test_hidden_images_are_named(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a")
    touch(tmp_path, "imagesTr/.b_0000.nii.gz")
    assert "holds a hidden image: .b_0000.nii.gz" in said(tmp_path)["unused_file"]


def test_images_without_a_number_are_taken_where_one_channel_is_declared(tmp_path: Path) -> None:
    describe(tmp_path)
    touch(tmp_path, "imagesTr/p_0000.nii.gz", "imagesTr/p_0001.nii.gz")
    touch(tmp_path, "labelsTr/p_0000.nii.gz", "labelsTr/p_0001.nii.gz")
    assert cases_of(tmp_path) == ["p_0000", "p_0001"]
    assert "are not called <case>_0000" in said(tmp_path)["description"]


def test_segmentations_of_slicer_are_labels(tmp_path: Path) -> None:
    touch(tmp_path / "plain", "images/a.nrrd", "labels/a.seg.nrrd", "images/b.nrrd")
    touch(tmp_path / "plain", "labels/b.SEG.NRRD")
    touch(tmp_path / "raw", "imagesTr/a_0000.nrrd", "labelsTr/a.seg.nrrd")
    describe(tmp_path / "raw", file_ending=".nrrd")
    assert cases_of(tmp_path / "plain") == ["a", "b"]
    assert (cases_of(tmp_path / "raw"), found_in(tmp_path / "raw")) == (["a"], [])


@pytest.mark.parametrize(
    "called", ["{}_0000", "{}_seg", "{}-label", "{}_mask", "{}_segmentation", "label_{}", "{} gt"]
)
def test_labels_called_nearly_as_their_cases_are_renamed_as_told(
    tmp_path: Path, called: str
) -> None:
    describe(tmp_path)
    touch(tmp_path, *(f"imagesTr/{case}_0000.nii.gz" for case in ("a 1", "b", "c", "d")))
    touch(tmp_path, *(f"labelsTr/{called.format(case)}.nii.gz" for case in ("a 1", "b", "c", "d")))
    (problem,) = found_in(tmp_path)
    assert f"{called.format('a 1')}.nii.gz, where a 1.nii.gz is expected" in problem.what
    command = problem.fix.partition("In a shell: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert (cases_of(tmp_path), found_in(tmp_path)) == (["a 1", "b", "c", "d"], [])


def test_plain_labels_are_told_what_to_be_called(tmp_path: Path) -> None:
    for index in range(3):
        touch(tmp_path, f"images/volume-{index}.nii.gz", f"labels/segmentation-{index}.nii.gz")
    (problem,) = [p for p in found_in(tmp_path) if p.severity == "error"]
    assert "segmentation-0.nii.gz to volume-0.nii.gz" in problem.fix
    subprocess.run(problem.fix.partition("In a shell: ")[2], shell=True, check=True)
    assert cases_of(tmp_path) == ["volume-0", "volume-1", "volume-2"]


def test_one_label_called_nearly_as_its_case_is_named(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", "b")
    (tmp_path / "labelsTr" / "b.nii.gz").rename(tmp_path / "labelsTr" / "B_seg.nii.gz")
    (problem,) = found_in(tmp_path)
    assert (problem.case_id, problem.fix) == ("b", "Rename it to b.nii.gz.")


def test_labels_of_channel_files_must_not_have_a_number(tmp_path: Path) -> None:
    for case in "ab":
        touch(tmp_path, f"images/{case}_0000.nii.gz", f"images/{case}_0001.nii.gz")
        touch(tmp_path, f"labels/{case}_0000.nii.gz")
    (problem,) = [p for p in found_in(tmp_path) if p.severity == "error"]
    assert "a_0000.nii.gz to a.nii.gz" in problem.fix


def test_names_of_different_unicode_forms_agree(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    describe(tmp_path / "raw")
    touch(tmp_path / "raw", f"imagesTr/{apart}_0000.nii.gz", f"labelsTr/{composed}.nii.gz")
    touch(tmp_path / "plain", f"images/{composed}.nii.gz", f"labels/{apart}.nii.gz")
    assert cases_of(tmp_path / "raw") == cases_of(tmp_path / "plain") == [composed]
    touch(tmp_path / "raw", f"imagesTr/{composed}_0000.nii.gz")
    with pytest.raises(AutosegError, match="but for the Unicode form of its letters"):
        open_dataset(tmp_path / "raw")


def test_a_name_too_long_for_files_stops_its_case_alone(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a", "b" * 210)
    dataset, problems = survey_dataset(tmp_path)
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert [(p.kind, p.severity) for p in problems] == [("naming", "error")]
    assert "its name has 210 bytes" in problems[0].what


def test_names_may_have_spaces_dots_and_dashes(tmp_path: Path) -> None:
    names = ["a b", "-c", "d.e.f", "(g)"]
    raw_dataset(tmp_path / "raw", *names)
    touch(tmp_path / "plain", *(f"images/{name}.nrrd" for name in names))
    touch(tmp_path / "plain", *(f"labels/{name}.nii" for name in names))
    assert cases_of(tmp_path / "raw") == cases_of(tmp_path / "plain") == sorted(names)


def test_two_labels_of_one_name_are_refused_unless_one_ends_as_declared(tmp_path: Path) -> None:
    raw_dataset(tmp_path, "a")
    touch(tmp_path, "labelsTr/a.nii")
    assert [problem.kind for problem in found_in(tmp_path)] == ["unused_file"]
    touch(tmp_path, "labelsTr/a.NII.GZ")
    assert "has the same name as a.NII.GZ" in said(tmp_path)["naming"]


def test_a_dataset_without_any_case_says_so(tmp_path: Path) -> None:
    describe(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(AutosegError, match="there are no training cases here"):
        open_dataset(tmp_path)
