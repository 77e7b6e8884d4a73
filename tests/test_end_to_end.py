import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from autoseg.cli import main
from autoseg.dataset.synthetic import make_scan, write_dataset, write_scan
from tests.pipeline.tiny import SMALL_NETWORK, write_rules

pytestmark = pytest.mark.usefixtures("torch_runs_networks")


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rules for networks that are trained in no time."""
    return write_rules(tmp_path_factory.mktemp("rules") / "tiny", SMALL_NETWORK)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Path, tiny: Path) -> Path:
    """A work folder with one fold trained for a few iterations."""
    folder = tmp_path_factory.mktemp("work") / "autoseg_work"
    run("plan", synthetic_dataset, "--work", folder, "--workers", 1, "--rules", tiny)
    run("train", "--fold", 0, "--iterations", 4, "--work", folder)
    return folder


def test_training_leaves_model_metrics_and_the_held_out_scores(work: Path) -> None:
    fold = work / "models" / "tiny" / "3d_fullres" / "fold_0"
    splits = json.loads((work / "splits.json").read_text())
    held_out = splits["folds"][0]["validation"]
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert sorted(summary["cases"]) == held_out
    assert (fold / "model.safetensors").is_file()
    assert (fold / "progress.png").is_file() and (fold / "examples.png").is_file()
    metrics = [json.loads(line) for line in (fold / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["iteration"] == 4
    assert set(metrics[-1]["patch_dice"]) == {"organ", "core", "lesion"}


def test_masks_lie_on_their_scans_grids_for_both_libraries(work: Path, tmp_path: Path) -> None:
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    for seed in range(2):
        scan = make_scan(100 + seed, (30 + seed, 28, 12))
        angle = 0.3 * seed
        rotation = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        scan.affine_ras_mm[:3, :3] = rotation @ scan.affine_ras_mm[:3, :3] * (1, -1, 1)
        write_scan(scans / f"scan_{seed}_0000.nii.gz", scan.image, scan)
    model = work / "models" / "tiny" / "3d_fullres" / "fold_0" / "model.safetensors"
    run("predict", scans, masks, "--model", model)
    assert sorted(path.name for path in masks.glob("*.nii.gz")) == [
        "scan_0.nii.gz",
        "scan_1.nii.gz",
    ]
    for seed in range(2):
        scan_path, mask_path = scans / f"scan_{seed}_0000.nii.gz", masks / f"scan_{seed}.nii.gz"
        scan_nib, mask_nib = nib.load(scan_path), nib.load(mask_path)
        np.testing.assert_array_equal(mask_nib.affine, scan_nib.affine)
        assert mask_nib.shape == scan_nib.shape
        assert mask_nib.get_data_dtype() == np.uint8
        scan_itk, mask_itk = sitk.ReadImage(str(scan_path)), sitk.ReadImage(str(mask_path))
        assert mask_itk.GetSize() == scan_itk.GetSize()
        np.testing.assert_allclose(mask_itk.GetDirection(), scan_itk.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(mask_itk.GetOrigin(), scan_itk.GetOrigin(), atol=1e-4)
        assert mask_itk.GetSpacing() == scan_itk.GetSpacing()


def test_masks_that_exist_are_kept_unless_told_otherwise(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make_scan(7, (30, 28, 12))
    write_scan(tmp_path / "in" / "a.nii.gz", scan.image, scan)
    arguments = ["predict", tmp_path / "in", tmp_path / "out", "--work", work]
    run(*arguments)
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"mine")
    run(*arguments)
    assert "kept 1" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == b"mine"
    run(*arguments, "--overwrite")
    assert nib.load(tmp_path / "out" / "a.nii.gz").shape == (30, 28, 12)


def test_a_bad_scan_is_named_and_the_others_are_segmented(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make_scan(7, (30, 28, 12))
    for name in ("a", "b", "c"):
        write_scan(tmp_path / "in" / f"{name}.nii.gz", scan.image, scan)
    bad = tmp_path / "in" / "b.nii.gz"
    bad.write_bytes(bad.read_bytes()[:2000])
    arguments = ["predict", tmp_path / "in", tmp_path / "out", "--work", work]
    assert main([str(a) for a in arguments]) == 1
    assert "b.nii.gz: cannot be read as NIfTI" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]


def test_scans_of_equal_names_are_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make_scan(7, (30, 28, 12))
    for folder in ("one", "two"):
        write_scan(tmp_path / folder / "a.nii.gz", scan.image, scan)
    inputs = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["predict", *inputs, str(tmp_path / "out"), "--work", str(work)]) == 1
    assert "a: " in (message := capsys.readouterr().err)
    assert "same mask as another scan" in message


def test_masks_never_replace_the_scans(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make_scan(7, (30, 28, 12))
    write_scan(tmp_path / "a.nii.gz", scan.image, scan)
    before = (tmp_path / "a.nii.gz").read_bytes()
    same = [str(tmp_path), str(tmp_path), "--overwrite", "--work", str(work)]
    assert main(["predict", *same]) == 1
    assert "would replace the scan" in capsys.readouterr().err
    assert (tmp_path / "a.nii.gz").read_bytes() == before


def test_each_mask_has_its_provenance(work: Path, tmp_path: Path) -> None:
    scan = make_scan(7, (30, 28, 12))
    write_scan(tmp_path / "in" / "a.nii.gz", scan.image, scan)
    run("predict", tmp_path / "in", tmp_path / "out", "--work", work, "--engine", "torch")
    (line,) = (tmp_path / "out" / "provenance.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["case_id"], record["engine"]) == ("a", "torch")
    assert len(record["models"]) == 1
    assert len(record["scan"]) == 32


def test_processes_share_the_scans(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        scan = make_scan(ord(name), (24, 20, 8))
        write_scan(tmp_path / "in" / f"{name}.nii.gz", scan.image, scan)
    arguments = ["predict", str(tmp_path / "in"), str(tmp_path / "out"), "--work", str(work)]
    for part, expected in (("1/2", {"a", "c"}), ("2/2", {"a", "b", "c"})):
        assert main([*arguments, "--part", part]) == 0
        masks = (tmp_path / "out").glob("*.nii.gz")
        assert {path.name.removesuffix(".nii.gz") for path in masks} == expected
    lines = (tmp_path / "out" / "provenance.jsonl").read_text().splitlines()
    assert [json.loads(line)["case_id"] for line in lines] == ["a", "c", "b"]
    capsys.readouterr()
    assert main([*arguments, "--part", "3/2"]) == 1
    assert "--part 3/2: expected a number and how many, such as 1/4" in capsys.readouterr().err


def test_resuming_what_is_finished_does_nothing(work: Path) -> None:
    fold = work / "models" / "tiny" / "3d_fullres" / "fold_0"
    before = (fold / "model.safetensors").stat().st_mtime_ns
    run("train", "--fold", 0, "--resume", "--work", work)
    assert (fold / "model.safetensors").stat().st_mtime_ns == before


def test_cases_that_are_gone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "data", 5, shape_vox=(24, 24, 10))
    arguments = ["--work", tmp_path / "work"]
    run("plan", tmp_path / "data", *arguments, "--workers", 1)
    (tmp_path / "data" / "imagesTr" / "case_003_0000.nii.gz").unlink()
    (tmp_path / "data" / "labelsTr" / "case_003.nii.gz").unlink()
    assert main(["train", "--fold", "0", *map(str, arguments)]) == 1
    assert "case_003 is gone" in capsys.readouterr().err
    assert main(["plan", str(tmp_path / "data"), *map(str, arguments)]) == 1
    assert "Make new folds with --overwrite" in capsys.readouterr().err


def test_a_wrong_number_of_channels_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make_scan(7, (30, 28, 12))
    for channel in range(2):
        write_scan(tmp_path / "in" / f"a_{channel:04d}.nii.gz", scan.image, scan)
    assert main(["predict", str(tmp_path / "in"), str(tmp_path / "out"), "--work", str(work)]) == 1
    assert "a: has channels 0000, 0001, but the model needs 0000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_trained_fold_is_not_written_over_unasked(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--fold", "0", "--iterations", "4", "--work", str(work)]) == 1
    assert "already holds a training" in capsys.readouterr().err
    assert main(["train", "--fold", "9", "--work", str(work)]) == 1
    assert "--fold 9: there is no such fold. Folds: 0 to 4, and all" in capsys.readouterr().err


def test_overwriting_begins_anew(synthetic_dataset: Path, tiny: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run("plan", synthetic_dataset, "--work", work, "--workers", 1, "--rules", tiny)
    for length in (2, 1):
        run("train", "--fold", 0, "--iterations", length, "--work", work, "--overwrite")
    metrics = (work / "models" / "tiny" / "3d_fullres" / "fold_0" / "metrics.jsonl").read_text()
    assert [json.loads(line)["iteration"] for line in metrics.splitlines()] == [1]


def test_models_keep_their_plan(
    work: Path,
    synthetic_dataset: Path,
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = ["plan", str(synthetic_dataset), "--work", str(work), "--workers", "1"]
    assert main([*plan, "--rules", str(tiny)]) == 0  # the same plan again
    assert main([*plan, "--rules", "nnunet", "--name", "tiny"]) == 1
    assert "holds models of another plan" in capsys.readouterr().err
    assert main([*plan, "--rules", "nnunet"]) == 0
    assert main([*plan, "--rules", str(tiny)]) == 0
    wider = ["--set", "inference.smallest_object_mm=3"]  # which the models do not know
    assert main([*plan, "--rules", str(tiny), *wider]) == 0
    assert "leave no object out" in caplog.text


def test_evaluate_scores_the_validation_masks_again(
    work: Path, synthetic_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = work / "models" / "tiny" / "3d_fullres" / "fold_0" / "validation"
    capsys.readouterr()
    run("evaluate", validation, synthetic_dataset / "labelsTr", "--json", "--workers", 1)
    again = json.loads(capsys.readouterr().out)
    run("evaluate", "--work", work, "--json", "--workers", 1)
    held_out = json.loads(capsys.readouterr().out)
    expected = json.loads((validation / "summary.json").read_text())
    for found in (again, held_out):
        for case_id, classes in expected["cases"].items():
            for name, scores in classes.items():
                assert found["cases"][case_id][name].items() >= scores.items()


def test_sigterm_saves_and_the_training_goes_on(tiny: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 5, shape_vox=(24, 24, 10))
    work = tmp_path / "work"
    run("plan", tmp_path / "data", "--work", work, "--workers", 1, "--rules", tiny)
    command = [sys.executable, "-m", "autoseg", "train", "--fold", "0", "--work", str(work)]
    process = subprocess.Popen(
        [*command, "--minutes", "10"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    metrics = work / "models" / "tiny" / "3d_fullres" / "fold_0" / "metrics.jsonl"
    deadline = time.monotonic() + 90
    state = metrics.parent / "resume" / "state.safetensors"  # saved as soon as it begins
    while not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143, message
    assert "--resume" in message
    assert state.is_file()
    run("train", "--fold", 0, "--work", work, "--minutes", 0.01, "--resume")
    assert (metrics.parent / "model.safetensors").is_file()


@pytest.mark.slow
def test_hippocampus_reaches_its_dice_in_fifteen_minutes(hippocampus: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run("plan", hippocampus, "--work", work, "--for", "cpu")
    run("train", "--fold", 0, "--minutes", 15, "--work", work)
    fold = work / "models" / "cpu" / "3d_fullres" / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert len(summary["cases"]) == 40
    assert summary["mean"]["dice"] >= 0.87  # measured: 0.881 to 0.887, by the processor


def test_slices_are_planned_trained_and_predicted_in_two_dimensions(
    tiny: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        label = np.zeros((40, 48), np.uint8)
        label[10:25, 8 + index : 30] = 255
        image = rng.normal(100, 10, (40, 48)) + label / 3
        for name, array in (("images", image.clip(0, 255)), ("labels", label)):
            path = tmp_path / "data" / name / f"cell_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(path)
    work = tmp_path / "work"
    run("plan", tmp_path / "data", "--work", work, "--workers", 1, "--rules", tiny)
    run("train", "--fold", 0, "--iterations", 3, "--work", work)
    model = work / "models" / "tiny" / "2d" / "fold_0" / "model.safetensors"
    run("predict", tmp_path / "data" / "images", tmp_path / "out", "--model", model)
    mask = nib.load(tmp_path / "out" / "cell_0.nii.gz")
    assert mask.shape == (48, 40)
    assert set(np.unique(mask.dataobj)) <= {0, 255}


def test_volumes_can_be_segmented_slice_by_slice(
    synthetic_dataset: Path, tiny: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    run("plan", synthetic_dataset, "--work", work, "--workers", 1, "--rules", tiny)
    run("train", "--fold", 0, "--iterations", 2, "--work", work, "--configuration", "2d")
    summary = work / "models" / "tiny" / "2d" / "fold_0" / "validation" / "summary.json"
    assert set(json.loads(summary.read_text())["classes"]) == {"1", "2", "3"}
