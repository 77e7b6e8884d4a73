"""Bad input, full disks and sudden death: one clear message, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.cli import main
from autoseg.dataset.synthetic import write_dataset
from autoseg.preprocessing.store import _read_info

SHAPE = (24, 22, 10)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", 5, shape_vox=SHAPE)
    return tmp_path / "data"


def truncate(dataset: Path) -> None:
    image = dataset / "imagesTr" / "case_001_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:3000])


def shift_label(dataset: Path) -> None:
    path = dataset / "labelsTr" / "case_001.nii.gz"
    label = nib.load(path)
    affine = label.affine + 0
    affine[2, 3] += 7
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), affine), path)


def add_undeclared_label(dataset: Path) -> None:
    path = dataset / "labelsTr" / "case_001.nii.gz"
    label = nib.load(path)
    array = np.asarray(label.dataobj).copy()
    array[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(array, label.affine), path)


def declare_second_channel(dataset: Path) -> None:
    description = json.loads((dataset / "dataset.json").read_text())
    description["channel_names"] = {"0": "T1", "1": "T2"}
    (dataset / "dataset.json").write_text(json.dumps(description))


def empty(dataset: Path) -> None:
    for path in sorted(dataset.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def remove(dataset: Path) -> None:
    empty(dataset)
    dataset.rmdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, ["case_001_0000.nii.gz", "cut short", "copy it again"]),
        (shift_label, ["case_001", "another grid", "origin", "Correct the header"]),
        (add_undeclared_label, ["case_001", "label values 9", "Declare"]),
        (declare_second_channel, ["channel 1 (T2) is missing", "case_001_0001.nii.gz"]),
        (empty, ["this folder is empty", "Supported layouts"]),
        (remove, ["there is no such dataset"]),
    ],
)
def test_bad_datasets_are_refused_with_case_file_and_fix(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    words: list[str],
) -> None:
    damage(dataset)
    work = tmp_path / "work"
    assert main(["plan", str(dataset), "--work", str(work), "--workers", "1"]) == 1
    message = capsys.readouterr().err
    for word in words:
        assert word in message
    assert not (work / "work.json").exists()


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".partial-")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("size_kb", [140, 180])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size_kb: int
) -> None:
    work = tmp_path / "small"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(work)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        arguments = ["--work", str(work), "--workers", "1"]
        assert main(["plan", str(dataset), *arguments, "--for", "cpu"]) == 0
        assert main(["prepare", *arguments]) == 1
        assert "the disk is full. Free some space" in capsys.readouterr().err
        assert not partial_files(work)
        subprocess.run(["mount", "-o", "remount,size=50m", str(work)], check=True)
        assert main(["prepare", *arguments]) == 0
    finally:
        subprocess.run(["umount", "--lazy", str(work)], check=True)


def kill_after(command: list[str], seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "autoseg", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_prepare_survives_kills(tmp_path: Path, delays_s: list[float]) -> None:
    write_dataset(tmp_path / "data", 40, shape_vox=(40, 40, 20))
    plan = ["plan", str(tmp_path / "data"), "--workers", "2", "--for", "cpu"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for work in (whole, killed):
        assert main([*plan, "--work", str(work)]) == 0
    assert main(["prepare", "--work", str(whole), "--workers", "1"]) == 0
    for delay_s in delays_s:
        kill_after(["prepare", "--work", str(killed), "--workers", "2"], delay_s)
    assert main(["prepare", "--work", str(killed), "--workers", "1"]) == 0
    assert files_of(killed / "prepared") == files_of(whole / "prepared")


def test_a_killed_prepare_is_finished_by_running_it_again(tmp_path: Path) -> None:
    check_prepare_survives_kills(tmp_path, [1.4])


def test_two_processes_that_prepare_at_once_both_write_whole_files(
    dataset: Path, tmp_path: Path
) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    for work in (whole, shared):
        assert (
            main(["plan", str(dataset), "--workers", "1", "--for", "cpu", "--work", str(work)]) == 0
        )
    assert main(["prepare", "--work", str(whole), "--workers", "1"]) == 0
    command = [sys.executable, "-m", "autoseg", "prepare", "--work", str(shared), "--workers", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert files_of(shared / "prepared") == files_of(whole / "prepared")
    assert not partial_files(shared)


def test_a_prepared_case_with_a_flipped_byte_is_named_and_prepared_again_when_told(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work")]
    assert main(["plan", str(dataset), *work, "--for", "cpu", "--workers", "1"]) == 0
    assert main(["prepare", *work, "--workers", "1"]) == 0
    stored = next((tmp_path / "work" / "prepared").glob("*/case_002.prepared"))
    whole = stored.read_bytes()
    damaged = bytearray(whole)
    damaged[_read_info(stored)[1] + 300] ^= 4  # in the first chunk of its image
    stored.write_bytes(damaged)
    train = ["train", "--fold", "all", "--iterations", "2", *work]
    assert main(train) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "case_002.prepared: " in told
    assert "autoseg prepare --verify" in told
    assert main(["prepare", *work, "--workers", "1", "--verify"]) == 0
    assert "files; 1 were damaged" in capsys.readouterr().out
    assert stored.read_bytes() == whole
    assert main(train) == 0


@pytest.mark.slow
def test_twenty_kills_change_nothing_in_what_is_prepared(tmp_path: Path) -> None:
    check_prepare_survives_kills(tmp_path, np.random.default_rng(0).uniform(0.5, 2, 20).tolist())


@pytest.mark.slow
def test_killed_trainings_and_predictions_are_finished_by_running_them_again(
    dataset: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    assert main(["plan", str(dataset), "--work", str(work), "--for", "cpu"]) == 0
    train = ["train", "--fold", "0", "--iterations", "300", "--work", str(work)]
    fold = work / "models" / "cpu" / "3d_fullres" / "fold_0"
    for delay_s in (4.0, 6.0, 9.0):
        kill_after([*train, "--overwrite"], delay_s)
        assert not (fold / "model.safetensors").exists()
    assert main([*train, "--overwrite"]) == 0
    masks = tmp_path / "masks"
    predict = ["predict", str(dataset / "imagesTr"), str(masks), "--work", str(work)]
    for delay_s in (2.0, 3.0, 3.5, 4.0):
        kill_after(predict, delay_s)
        for mask in masks.glob("*.nii.gz"):
            assert nib.load(mask).get_fdata().shape == SHAPE
    assert main(predict) == 0
    assert len(list(masks.glob("*.nii.gz"))) == 5
    assert not partial_files(masks)
