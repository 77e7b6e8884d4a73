import json
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
    assert "driver to 580" in advice and "CUDA_VISIBLE_DEVICES" in advice
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
