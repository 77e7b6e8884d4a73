import json
import re
from pathlib import Path

import pytest
import torch

from autoseg.cli import main
from autoseg.pipeline import doctor
from tests.made_up_gpus import MadeUpGpu, install


def test_findings_name_versions_hardware_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert findings.keys() >= {"Python", "torch", "processor", "memory", "disk"}
    assert any(name == "GPU" or name.startswith("gpu:") for name in findings)
    assert "cores" in findings["processor"]["value"]


def test_a_gpu_that_torch_cannot_use_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setattr(doctor, "_ask_nvidia", {"name": "NVIDIA X", "driver_version": "470.1"}.get)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    findings = {f.name: f for f in doctor.examine(Path())}
    assert findings["GPU"].value == "NVIDIA X, driver 470.1"
    advice = findings["CUDA"].advice or ""
    assert "needs driver 580 or newer, here is 470.1: update it." in advice
    monkeypatch.setattr("torch.version.cuda", None)
    findings = {f.name: f for f in doctor.examine(Path())}
    assert "Install a torch with CUDA" in (findings["CUDA"].advice or "")


def test_each_gpu_is_shown_with_what_others_take_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    full = torch.OutOfMemoryError("CUDA error: out of memory")
    install(
        monkeypatch,
        MadeUpGpu("NVIDIA T4", 15, major=7),
        MadeUpGpu("NVIDIA RTX 4090", 24, others_gib=3.9),
        MadeUpGpu("NVIDIA H100", 80, error=full),
    )
    findings = {f.name: f for f in doctor.examine(Path())}
    assert findings["gpu:0"].value == "NVIDIA T4, 15 GiB"
    assert "half precision" in (findings["gpu:0"].advice or "")
    assert findings["gpu:1"].value == "NVIDIA RTX 4090, 20.1 of 24.0 GiB free"
    assert "Others use its memory" in (findings["gpu:1"].advice or "")
    assert "cannot be used" in (findings["gpu:2"].advice or "")
    assert findings["processor"].advice is None


@pytest.mark.parametrize(
    ("cuda", "driver", "advice"),
    [
        ("13.0", "580.65.06", None),
        ("13.0", None, None),
        ("12.8", "535.183.01", None),
        ("13.0", "535.183.01", "needs driver 580 or newer, here is 535.183.01: .*VARIANT=cuda12"),
        ("12.8", "470.256.02", r"needs driver 525 or newer, here is 470.256.02: update it\.$"),
    ],
)
def test_a_driver_too_old_for_torch_is_told_in_a_line(
    cuda: str, driver: str | None, advice: str | None
) -> None:
    told = doctor.driver_too_old(cuda, driver)
    assert told is None if advice is None else re.search(advice, told or "")
    assert "\n" not in (told or "")


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.01  Release Build  (b@h)",
    ],
)
def test_without_its_program_the_kernel_says_the_drivers_version(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_ask_nvidia", lambda what: None)
    monkeypatch.setattr(doctor, "GPU_DRIVER", tmp_path)
    assert doctor.driver_version() is None
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0 (Debian)\n")
    assert doctor.driver_version() == "535.183.01"
