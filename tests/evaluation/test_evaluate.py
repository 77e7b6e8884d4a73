"""Covers: metrics, evaluation, scored_case, remarks."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import ArrayLike

from autoseg.cli import main
from autoseg.errors import AutosegError
from autoseg.evaluation.evaluate import evaluate_folders


def save(path: Path, labels: ArrayLike, spacing: float = 2.0) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(
        nib.Nifti1Image(np.asarray(labels).astype(np.uint8), np.diag([spacing, 1, 1, 1])), path
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for case in "ab":
        save(tmp_path / "masks" / f"{case}.nii.gz", rng.integers(0, 3, (9, 8, 7)))
        save(tmp_path / "truth" / f"{case}.nii.gz", rng.integers(0, 3, (9, 8, 7)))
    return tmp_path / "masks", tmp_path / "truth"


def test_dice_and_volume_agree_with_simpleitk(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate_folders(*folders, workers=1)
    for case, scores in evaluation.cases.items():
        images = [sitk.ReadImage(str(folder / f"{case}.nii.gz")) for folder in folders]
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*images)
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(images[0])
        for value in (1, 2):
            assert scores[str(value)]["dice"] == pytest.approx(overlap.GetDiceCoefficient(value))
            volume_ml = shape.GetPhysicalSize(value) / 1000
            assert scores[str(value)]["volume_ml"] == pytest.approx(volume_ml)
    mean = np.mean([scores["1"]["dice"] for scores in evaluation.cases.values()])
    assert evaluation.classes["1"]["dice"] == pytest.approx(mean)
    both = [evaluation.classes[v]["dice"] or 0 for v in "12"]
    assert evaluation.mean["dice"] == pytest.approx(np.mean(both))


def test_the_json_has_the_promised_shape(folders: tuple[Path, Path]) -> None:
    content = evaluate_folders(*folders, workers=1).model_dump(mode="json")
    assert set(content) >= {"mean", "classes", "cases"}
    assert set(content["cases"]["a"]["1"]) >= {"dice", "volume_ml"}
    assert isinstance(content["mean"]["dice"], float)
    assert isinstance(content["classes"]["1"]["dice"], float)


def test_a_class_in_neither_mask_has_no_dice_and_in_one_has_0(tmp_path: Path) -> None:
    empty, full = np.zeros((4, 4, 4)), np.ones((4, 4, 4))
    for name, mask, truth in (("a", empty, empty), ("b", full, empty), ("c", full, full)):
        save(tmp_path / "masks" / f"{name}.nii.gz", mask)
        save(tmp_path / "truth" / f"{name}.nii.gz", truth)
    evaluation = evaluate_folders(tmp_path / "masks", tmp_path / "truth", workers=1)
    assert evaluation.cases["b"]["1"]["dice"] == 0
    assert evaluation.cases["c"]["1"]["dice"] == 1
    assert evaluation.cases["a"]["1"]["dice"] is None
    assert evaluation.classes["1"]["dice"] == 0.5


def test_masks_without_a_reference_and_other_grids_are_refused(
    folders: tuple[Path, Path],
) -> None:
    masks, truth = folders
    (truth / "b.nii.gz").unlink()
    with pytest.raises(AutosegError, match=r"b\.nii\.gz: there is no reference named b"):
        evaluate_folders(masks, truth, workers=1)
    save(truth / "b.nii.gz", np.zeros((9, 8, 7)), spacing=2.5)
    with pytest.raises(AutosegError, match=r"different grids: 1x1x2 against 1x1x2\.5 mm, corners"):
        evaluate_folders(masks, truth, workers=1)


def test_all_pairs_on_other_grids_are_named_at_once(folders: tuple[Path, Path]) -> None:
    for case in "ab":
        save(folders[1] / f"{case}.nii.gz", np.zeros((9, 8, 6)))
    with pytest.raises(AutosegError, match=r"(?s)2 problems.*a\.nii.*b\.nii.*nearest neighbours"):
        evaluate_folders(*folders, workers=1)


def test_the_same_voxels_in_another_order_are_scored_with_a_note(
    folders: tuple[Path, Path],
) -> None:
    before = evaluate_folders(*folders, workers=1)
    stored = nib.load(folders[0] / "a.nii.gz")
    turned = stored.as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, folders[0] / "a.nii.gz")
    after = evaluate_folders(*folders, workers=1)
    assert after.cases == before.cases
    assert "a: mask and reference cover the same voxels" in after.notes[0]


def test_masks_without_a_place_are_scored_voxel_by_voxel_with_a_note(
    folders: tuple[Path, Path],
) -> None:
    before = evaluate_folders(*folders, workers=1)
    stored = nib.load(folders[0] / "a.nii.gz")
    stored.set_sform(None, 0)
    stored.set_qform(None, 0)
    nib.save(stored, folders[0] / "a.nii.gz")
    after = evaluate_folders(*folders, workers=1)
    assert after.cases == before.cases
    assert "a: mask or reference does not state where it lies" in after.notes[0]


def test_the_command_scores_by_name_and_leaves_out_what_nobody_annotated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = np.ones((4, 4, 4))
    truth[2:] = 2
    save(tmp_path / "masks" / "a.nii.gz", truth)
    truth[:, 2:] = 3  # nobody looked here
    save(tmp_path / "data" / "a.nii.gz", truth)
    command = ["evaluate", str(tmp_path / "masks"), str(tmp_path / "data"), "--workers", "1"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "value 3 is in references, but in no mask" in shown.err
    labels = '{"labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}}'
    (tmp_path / "dataset.json").write_text(labels)
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [line.split() for line in shown.out.splitlines()[:3]] == [
        ["1", "liver", "Dice", "1.0000"],
        ["2", "tumour", "Dice", "1.0000"],
        ["mean", "of", "1", "cases", "Dice", "1.0000"],
    ]
    assert f"names from {tmp_path / 'dataset.json'}" in shown.out


def test_values_that_are_not_declared_are_told(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    description = folders[0].parent / "labels.json"
    description.write_text('{"labels": {"background": 0, "liver": 1}}')
    main(["evaluate", *map(str, folders), "--labels", str(description), "--workers", "1"])
    assert "values 2 are in the files, but are not declared" in capsys.readouterr().err
