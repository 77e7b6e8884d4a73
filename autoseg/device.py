"""Where torch computes, how precisely, and what that hardware is."""

import re
import time
from dataclasses import dataclass
from typing import Literal

import torch

from autoseg.errors import AutosegError
from autoseg.machine import (
    GIB,
    Machine,
    available_cores,
    cpu_has_bf16,
    free_memory_gib,
    machine_without_gpu,
    processor_name,
)
from autoseg.neighbours import Neighbours

THREADS_INTERVAL_S = 5.0

Precision = Literal["fp32", "bf16", "fp16"]
# The last is what is left where no algorithm of cuDNN found room to work in.
WANT_OF_MEMORY = ("allocate memory", "ALLOC_FAILED", "out of memory", "unable to find an engine")
TORCH_KINDS = {"cpu": "cpu", "gpu": "cuda"}  # torch's names for kinds of devices
OUR_KINDS = {theirs: ours for ours, theirs in TORCH_KINDS.items()} | {k: k for k in TORCH_KINDS}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, and what its networks compute in."""

    torch_device: torch.device
    precision: Precision

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        return "cpu" if self.torch_device.type == TORCH_KINDS["cpu"] else "gpu"

    @property
    def name(self) -> str:
        """What users call it: `cpu`, `gpu:0`."""
        return "cpu" if self.kind == "cpu" else f"gpu:{self.torch_device.index or 0}"

    def autocast(self) -> torch.autocast:
        """The context in which networks run; losses and sums stay in single precision."""
        return torch.autocast(
            self.torch_device.type, DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def synchronize(self) -> None:
        """Wait until everything that was asked of the device is done."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)


class Threads:
    """How many threads networks run in on a CPU: as many as there are cores that others leave.

    Threads wait for the slowest of them, so one that has to share its core holds up all. There are
    never more than torch began with, as OMP_NUM_THREADS or `torch.set_num_threads` said.
    """

    def __init__(self, device: Device) -> None:
        self.most = torch.get_num_threads()
        self.neighbours = Neighbours() if device.kind == "cpu" and self.most > 1 else None
        self.asked_s = time.monotonic()

    def follow(self) -> None:
        """Look again now and then; to be called as often as there is work."""
        now_s = time.monotonic()
        if self.neighbours is None or now_s - self.asked_s < THREADS_INTERVAL_S:
            return
        self.asked_s = now_s
        wanted = max(1, min(self.most, round(self.neighbours.free_cores())))
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)

    def close(self) -> None:
        torch.set_num_threads(self.most)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error is for want of memory; on a CPU torch has no type of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and any(words in told for words in WANT_OF_MEMORY)


def gpus() -> list[str]:
    """The names of the GPUs that torch can use, in its order: `gpu:0`, `gpu:1`."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"gpu:{index}" for index in range(count)]


def choose_device(name: str | None = None, precision: Precision | None = None) -> Device:
    """A device by name (`cpu`, `gpu`, `gpu:1`), or the first GPU that torch can use, else the CPU.

    Unless a precision is given, a GPU computes in bfloat16, older ones in half precision; a CPU in
    bfloat16 where its hardware multiplies that quickly. Raises AutosegError for a device that is
    not there.
    """
    kind, index = _parse(name)
    if kind == "cpu" and index is None:
        if precision == "fp16":
            raise AutosegError("--precision fp16: is for GPUs. Use bf16 or fp32 on a CPU.")
        fastest: Precision = "bf16" if cpu_has_bf16() else "fp32"
        return Device(torch.device("cpu"), precision or fastest)
    there, index = gpus(), index or 0
    if kind != "gpu" or index >= len(there):
        raise AutosegError(
            f"--device {name}: there is no such device. Devices: {', '.join(['cpu', *there])}."
        )
    device = torch.device(TORCH_KINDS["gpu"], index)
    return Device(device, precision or ("bf16" if _gpu_has_bf16(device) else "fp16"))


def precisions_to_try(device: Device) -> tuple[Precision, ...]:
    """What networks may be fastest in on a device, the most exact first."""
    if device.kind == "cpu":
        return ("fp32", "bf16") if cpu_has_bf16() else ("fp32",)
    return ("bf16", "fp16") if _gpu_has_bf16(device.torch_device) else ("fp32", "fp16")


def hardware_of(device: Device) -> str:
    """What times that were measured on a device hold for: it, how much of it is ours, and torch."""
    name = processor_name()
    if device.kind == "gpu":
        name = torch.cuda.get_device_properties(device.torch_device).name
    return f"{name}, {available_cores()} cores, torch {torch.__version__}"


def use_device(device: Device) -> None:
    """Let this process work on a device, with the fastest algorithms for batches of one shape."""
    if device.kind == "gpu":
        torch.cuda.set_device(device.torch_device)
        torch.backends.cudnn.benchmark = True


def _parse(name: str | None) -> tuple[str | None, int | None]:
    """Kind and index of a device's name, in our words or torch's; no kind for any other text."""
    if name is None:
        return ("gpu" if gpus() else "cpu"), None
    match = re.fullmatch(r"(\w+)(?::(\d+))?", name)
    if match is None:
        return None, None
    return OUR_KINDS.get(match[1]), None if match[2] is None else int(match[2])


def machine_of(device: Device) -> Machine:
    """This computer as trainings on a device find it, its GPU being torch's, or a slice of one.

    Memory that other processes hold is not free; what this one holds is. Raises AutosegError when
    the GPU cannot be used.
    """
    machine = machine_without_gpu()
    if device.kind == "cpu":
        return machine
    properties = torch.cuda.get_device_properties(device.torch_device)
    total_gib = properties.total_memory / GIB
    return machine.model_copy(
        update={
            "gpu_name": properties.name,
            "gpu_memory_gib": round(total_gib, 1),
            "gpu_free_gib": round(min(_gpu_free_gib(device), total_gib), 1),
            "bf16": _gpu_has_bf16(device.torch_device),
        }
    )


def _gpu_free_gib(device: Device) -> float:
    """What is free of a GPU's memory, or held by this process's allocator, which may reuse it."""
    here = device.torch_device
    properties = torch.cuda.get_device_properties(here)
    try:
        free_bytes, _ = torch.cuda.mem_get_info(here)
    except RuntimeError as error:  # such as one that others hold all of
        raise AutosegError(
            f"{device.name} ({properties.name}) cannot be used: {str(error).splitlines()[0]} Wait "
            "until others have left it, or choose another with CUDA_VISIBLE_DEVICES; `autoseg plan "
            "--for gpu:GB` plans without it."
        ) from None
    free_gib = (free_bytes + torch.cuda.memory_reserved(here)) / GIB
    if properties.is_integrated:  # in memory shared with the CPU, files that Linux keeps look used
        return max(free_gib, free_memory_gib())
    return free_gib


def _gpu_has_bf16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 in hardware: those since Ampere."""
    return int(torch.cuda.get_device_properties(device).major) >= 8
