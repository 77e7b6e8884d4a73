"""What this computer is but for its GPU, which only torch is asked for: cores and memory."""

import os
import platform
import re
import shutil
import socket
import sys
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Literal

from autoseg.errors import AutosegError
from autoseg.records import Record

GIB = 1024**3
ANY_GPU = "any"  # the name of a GPU that is planned for, and known by its memory alone
CGROUP = Path("/sys/fs/cgroup")
UNNOTICED = 0.05  # of a GPU's memory: what a desktop takes changes no plan
# What Linux shows where torch may find a GPU: drivers of NVIDIA's cards, of its small boards, of
# Windows around it, and of AMD's cards; the last two where nothing has used the card yet.
GPU_DEVICES = ("nvidia*", "nvhost*", "nvgpu*", "nvmap", "dxg", "kfd")
GPU_DRIVER = Path("/proc/driver/nvidia")
GPU_PROGRAM = "nvidia-smi"


class Machine(Record):
    """The hardware that a plan is made for. Memory is in GiB; no GPU means `gpu_name` is None."""

    gpu_name: str | None
    gpu_memory_gib: float  # of the whole device, or of the slice of it that is ours
    gpu_free_gib: float | None = None  # what others leave of it; None where nobody else is there
    cores: int
    memory_gib: float
    bf16: bool

    @property
    def device(self) -> Literal["cpu", "gpu"]:
        return "cpu" if self.gpu_name is None else "gpu"

    @property
    def gpu_is_shared(self) -> bool:
        """Whether others use more of the GPU's memory than a desktop or a driver does."""
        free_gib = self.gpu_free_gib
        return free_gib is not None and free_gib < (1 - UNNOTICED) * self.gpu_memory_gib

    @property
    def gpu_planned_gib(self) -> float:
        """The GPU's memory to plan for: all of it, or what is free where others use it too."""
        if self.gpu_free_gib is not None and self.gpu_is_shared:
            return self.gpu_free_gib
        return self.gpu_memory_gib

    @property
    def gpu_memory_in_words(self) -> str:
        """Such as `24 GiB`, or `20.1 of 24.0 GiB free`."""
        if self.gpu_is_shared:
            return f"{self.gpu_free_gib:.1f} of {self.gpu_memory_gib:.1f} GiB free"
        return f"{self.gpu_memory_gib:.4g} GiB"


def machine_without_gpu() -> Machine:
    """This computer as its processor alone: the cores and the memory that we may use."""
    return Machine(
        gpu_name=None,
        gpu_memory_gib=0.0,
        cores=available_cores(),
        memory_gib=round(_memory_limit_bytes() / GIB, 1),
        bf16=cpu_has_bf16(),
    )


def may_have_gpu() -> bool:
    """False where torch need not be asked for a GPU, because no driver of one is here."""
    if sys.platform != "linux":
        return True
    devices = Path("/dev")
    return (
        any(any(devices.glob(pattern)) for pattern in GPU_DEVICES)
        or GPU_DRIVER.exists()
        or shutil.which(GPU_PROGRAM) is not None
    )


def machine_for(target: str) -> Machine:
    """The machine named by `cpu` or `gpu:GB`, with this computer's cores and memory.

    Raises AutosegError for any other text.
    """
    here = machine_without_gpu()
    if target == "cpu":
        return here
    match = re.fullmatch(r"gpu:(\d+(?:\.\d+)?)", target)
    if match is None or float(match[1]) < 1:
        raise AutosegError(f"--for {target}: expected cpu or gpu:GB, for example gpu:24.")
    return here.model_copy(
        update={"gpu_name": ANY_GPU, "gpu_memory_gib": float(match[1]), "bf16": True}
    )


def available_cores() -> int:
    """Cores that this process may use: containers and batch systems allow fewer than exist."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(there or 1, _cores_limit())))


def _cores_limit() -> float:
    """How many cores' time a container may use, as `docker run --cpus` says."""
    with suppress(OSError, ValueError):  # no limit is "max"
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (
            (CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        if int(quota) > 0:
            return int(quota) / int(period)
    return inf


def free_memory_gib() -> float:
    """Memory that programs may still take, in GiB, within what a container allows."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return _memory_limit_bytes() / GIB / 2
    lines = meminfo.read_text(encoding="utf-8").splitlines()
    available_kib = next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
    return min(available_kib * 1024, _memory_limit_bytes() - _container_bytes_used()) / GIB


def used_memory_gib() -> float:
    """Memory that this process holds, in GiB; 0 where that cannot be known."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB


def _container_bytes_used() -> int:
    """What this container's processes hold, without files that the kernel keeps while it can."""
    current, stat = (CGROUP / f"memory.{name}" for name in ("current", "stat"))
    if not (current.exists() and stat.exists()):
        return 0
    counts = dict(line.split() for line in stat.read_text().splitlines())
    return max(0, int(current.read_text()) - int(counts.get("file", 0)))


def boot_name() -> str:
    """A name of this computer since it started; containers on it share it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else socket.gethostname()


def process_start(pid: int) -> str | None:
    """When a process here started, so that it is told from a later one; None where none runs."""
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return "unknown"
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def cpu_flags() -> set[str]:
    """The processor's instruction set extensions, as Linux names them."""
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware: Intel's and AMD's, or ARM's."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def processor_name() -> str:
    """What the processor is called, and how its instructions are."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(names), platform.processor() or 'unknown')} ({platform.machine()})"


def _memory_limit_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = CGROUP / limit_file
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            return min(physical, int(text))
    return physical
