import json
from pathlib import Path

import pytest

from autoseg.cli import main
from autoseg.machine import Machine
from autoseg.pipeline import doctor


def test_findings_name_versions_hardware_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert findings.keys() >= {"Python", "torch", "processor", "memory", "disk", "GPU"}
    assert "cores" in findings["processor"]["value"]


def test_a_gpu_that_torch_cannot_use_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(gpu_name="NVIDIA X", gpu_memory_gib=24, cores=4, memory_gib=32, bf16=True)
    monkeypatch.setattr(doctor, "detect_machine", lambda: machine)
    monkeypatch.setattr(doctor, "_driver_version", lambda: "470.1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    findings = {f.name: f for f in doctor.examine(Path())}
    assert "NVIDIA X" in findings["GPU"].value
    assert findings["CUDA"].advice is not None
    assert "driver" in findings["CUDA"].advice or "torch with CUDA" in findings["CUDA"].advice
