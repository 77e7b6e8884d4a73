import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from autoseg import device as device_module
from autoseg.device import (
    Device,
    Precision,
    Threads,
    choose_device,
    gpus,
    machine_of,
    ran_out_of_memory,
)
from autoseg.errors import AutosegError
from autoseg.machine import machine_without_gpu
from autoseg.neighbours import Neighbours
from autoseg.planning.facts import gather_facts
from tests.made_up_gpus import MadeUpGpu, install
from tests.planning.specified import Scans, made_up_fingerprint, plan_of

SMALL, LARGE = MadeUpGpu("NVIDIA T4", 15, major=7), MadeUpGpu("NVIDIA H100", 80)
SLICE = MadeUpGpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75, major=8)
BUSY = MadeUpGpu("NVIDIA RTX 4090", 24, others_gib=3.4, ours_gib=0.5)


@pytest.fixture(autouse=True)
def nvidia_smi_shows_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does where CUDA_VISIBLE_DEVICES, a slice or torch's order say otherwise."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA hidden, 131072, 9.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_the_first_gpu_is_the_first_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, SMALL, LARGE)
    machine = machine_of(choose_device())
    assert (machine.gpu_name, machine.gpu_memory_gib, machine.bf16) == ("NVIDIA T4", 15, False)
    assert choose_device().precision == "fp16"


def test_another_gpu_is_described_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, SMALL, LARGE)
    machine = machine_of(choose_device("gpu:1"))
    assert (machine.gpu_name, machine.gpu_memory_gib, machine.bf16) == ("NVIDIA H100", 80, True)
    assert choose_device("gpu:1").precision == "bf16"


def test_a_slice_of_a_gpu_has_the_slices_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, SLICE)
    machine = machine_of(choose_device())
    assert machine.gpu_name is not None and "MIG" in machine.gpu_name
    assert machine.gpu_planned_gib == machine.gpu_memory_gib == 4.8


def test_what_others_hold_is_not_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, BUSY)
    machine = machine_of(choose_device())
    assert (machine.gpu_memory_gib, machine.gpu_free_gib) == (24, 20.6)
    fingerprint = made_up_fingerprint(Scans((400, 512, 512), (1, 0.8, 0.8)))
    assert gather_facts(fingerprint, machine, "3d_fullres").gpu_memory_gib == 20.6
    plan = plan_of(fingerprint, "default", machine)
    reasons = {decision.name: decision.because for decision in plan.decisions}
    assert "20.6 of 24.0 GiB free" in reasons["machine"]


def test_what_a_desktop_holds_changes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, MadeUpGpu("NVIDIA RTX 4090", 24, others_gib=1.1))
    machine = machine_of(choose_device())
    assert machine.gpu_planned_gib == 24
    assert machine.gpu_memory_in_words == "24 GiB"


def test_files_kept_in_memory_that_a_gpu_shares_are_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, MadeUpGpu("NVIDIA GB10", 120, others_gib=100, is_integrated=True))
    monkeypatch.setattr(device_module, "free_memory_gib", lambda: 118.0)
    assert machine_of(choose_device()).gpu_planned_gib == 120


def test_a_gpu_that_others_fill_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.OutOfMemoryError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
    install(monkeypatch, LARGE, MadeUpGpu("NVIDIA H100", 80, error=error))
    with pytest.raises(AutosegError, match=r"gpu:1 \(NVIDIA H100\) cannot be used.*choose another"):
        machine_of(choose_device("gpu:1"))


def test_a_gpu_that_torch_cannot_use_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert machine_of(choose_device()) == machine_without_gpu()
    # The driver is too old for torch, but counts devices all the same.
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert gpus() == []
    assert choose_device().name == "cpu"


def test_a_cpu_that_is_asked_for_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, LARGE)
    assert machine_of(choose_device("cpu")).gpu_name is None


@pytest.mark.parametrize(
    ("typed", "name", "torch_name"),
    [
        ("cpu", "cpu", "cpu"),
        ("gpu", "gpu:0", "cuda:0"),
        ("gpu:1", "gpu:1", "cuda:1"),
        ("cuda", "gpu:0", "cuda:0"),
        ("cuda:1", "gpu:1", "cuda:1"),
    ],
)
def test_devices_have_our_names_and_take_torchs_too(
    typed: str, name: str, torch_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, SMALL, LARGE)
    device = choose_device(typed)
    assert (device.name, str(device.torch_device)) == (name, torch_name)


@pytest.mark.parametrize(
    "typed",
    ["gpu:2", "cuda:2", "gpu:99", "cpu:0", "cpu:1", "gpu:", "gpu:x", "cuda:x", "gpu:-1", "tpu", ""],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, SMALL, LARGE)
    expected = rf"--device {typed}: .*no such device. Devices: cpu, gpu:0, gpu:1\."
    with pytest.raises(AutosegError, match=expected):
        choose_device(typed)


def test_cores_and_memory_are_known_without_torch() -> None:
    script = (
        "import sys; from autoseg.pipeline.prepare import in_memory_if_small; "
        "from autoseg.machine import machine_for; "
        "in_memory_if_small({}, 1); machine_for('gpu:24'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_gpus_the_cpu_is_all_there_is_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    for typed in ("gpu", "gpu:0", "cuda:0"):
        with pytest.raises(AutosegError, match=rf"--device {typed}: .*Devices: cpu\."):
            choose_device(typed)


@pytest.mark.parametrize(("has_bf16", "fastest"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_computes_in_what_it_multiplies_quickly(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, fastest: str
) -> None:
    monkeypatch.setattr(device_module, "cpu_has_bf16", lambda: has_bf16)
    assert choose_device("cpu").precision == fastest
    assert choose_device("cpu", "fp32").precision == "fp32"


def test_half_precision_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, LARGE)
    assert choose_device("gpu:0", "fp16").precision == "fp16"
    with pytest.raises(AutosegError, match="is for GPUs"):
        choose_device("cpu", "fp16")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_networks_run_in_the_precision_that_was_chosen(
    precision: Precision, dtype: torch.dtype
) -> None:
    layer, rows = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with Device(torch.device("cpu"), precision).autocast():
        assert layer(rows).dtype == dtype


def test_want_of_memory_is_told_from_other_errors() -> None:
    assert ran_out_of_memory(torch.OutOfMemoryError())
    assert ran_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not ran_out_of_memory(RuntimeError("size mismatch"))
    assert not ran_out_of_memory(ValueError("out of memory"))


def test_threads_follow_the_cores_that_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "THREADS_INTERVAL_S", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    free = iter([2.4, 0.3, 7.0])
    monkeypatch.setattr(Neighbours, "free_cores", lambda watch: next(free))
    with closing(Threads(Device(torch.device("cpu"), "fp32"))) as threads:
        counts = []
        for _ in range(3):
            threads.follow()
            counts.append(torch.get_num_threads())
    assert counts == [2, 1, 4]  # at least one, and never more than at first
    torch.set_num_threads(before)


def test_a_single_thread_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that OMP_NUM_THREADS=1 makes trainings equal to the bit whoever else is there."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert Threads(Device(torch.device("cpu"), "fp32")).neighbours is None
    torch.set_num_threads(before)
