import os
from pathlib import Path

import pytest

from autoseg import machine as machine_module
from autoseg.errors import AutosegError
from autoseg.machine import (
    ANY_GPU,
    Machine,
    available_cores,
    cpu_flags,
    cpu_has_bf16,
    free_memory_gib,
    machine_for,
    machine_without_gpu,
    may_have_gpu,
    used_memory_gib,
)


def test_a_machine_elsewhere_is_named_by_its_memory() -> None:
    planned = machine_for("gpu:24")
    assert (planned.gpu_name, planned.gpu_memory_gib, planned.bf16) == (ANY_GPU, 24, True)
    assert planned.gpu_planned_gib == 24
    assert (planned.device, machine_for("cpu").device) == ("gpu", "cpu")
    assert (planned.cores, planned.memory_gib) == (
        machine_without_gpu().cores,
        machine_without_gpu().memory_gib,
    )
    for wrong in ("gpu", "gpu:0.5", "tpu:8"):
        with pytest.raises(AutosegError, match="expected cpu or gpu:GB"):
            machine_for(wrong)


@pytest.fixture
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer of Linux with nothing of a GPU's driver."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(machine_module, "GPU_DEVICES", ("no_such_device*",))
    monkeypatch.setattr(machine_module, "GPU_DRIVER", tmp_path / "nvidia")
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_there_is_no_gpu() -> None:
    assert not may_have_gpu()


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("trace", ["a device", "a driver", "a program", "another system"])
def test_any_trace_of_a_driver_has_torch_asked_for_gpus(
    trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trace == "a device":
        monkeypatch.setattr(machine_module, "GPU_DEVICES", ("no_such_device*", "nul*"))
    elif trace == "a driver":
        (tmp_path / "nvidia").mkdir()
    elif trace == "a program":
        (tmp_path / "nvidia-smi").touch(mode=0o755)
    else:
        monkeypatch.setattr("sys.platform", "win32")
    assert may_have_gpu()


def test_a_processor_alone_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the driver says: only torch is asked for GPUs, by the room that may import it."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81920, 9.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    here = machine_without_gpu()
    assert (here.gpu_name, here.gpu_memory_gib, here.device) == (None, 0, "cpu")


@pytest.mark.parametrize(
    ("free_gib", "planned_gib", "words"),
    [(None, 24, "24 GiB"), (23.5, 24, "24 GiB"), (12.3, 12.3, "12.3 of 24.0 GiB free")],
)
def test_a_gpu_that_others_use_has_what_they_leave(
    free_gib: float | None, planned_gib: float, words: str
) -> None:
    shared = Machine(
        gpu_name="NVIDIA RTX 4090", gpu_memory_gib=24, gpu_free_gib=free_gib, cores=8,
        memory_gib=64, bf16=True,
    )  # fmt: skip
    assert (shared.gpu_planned_gib, shared.gpu_memory_in_words) == (planned_gib, words)


@pytest.mark.parametrize(
    ("flags", "has_bf16"),
    [("fpu avx512f", False), ("fpu avx512_bf16", True), ("amx_bf16 fpu", True)],
)
def test_processors_say_whether_they_multiply_bfloat16(
    monkeypatch: pytest.MonkeyPatch, flags: str, has_bf16: bool
) -> None:
    monkeypatch.setattr(machine_module, "cpu_flags", lambda: set(flags.split()))
    assert cpu_has_bf16() == has_bf16


def test_memory_and_cores_are_those_that_exist() -> None:
    here = machine_without_gpu()
    assert 0 < used_memory_gib() < here.memory_gib
    assert 0 < free_memory_gib() <= here.memory_gib + 0.1
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    assert here.cores == available_cores()
    if Path("/proc/cpuinfo").exists():
        assert "flags" in cpu_flags() or "Features" in cpu_flags()


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("150000 100000", 1), ("max 100000", 4), ("20000 100000", 1), ("300000 100000", 3)],
)
def test_containers_limits_of_cores_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine_module, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert available_cores() == cores


def test_older_containers_limit_cores_in_two_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(machine_module, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    for quota, cores in ((200_000, 2), (-1, 4)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(str(quota))
        assert available_cores() == cores
