"""Where torch computes, and how precisely."""

from dataclasses import dataclass
from typing import Literal

import torch

from autoseg.errors import AutosegError
from autoseg.machine import cpu_has_bf16

Precision = Literal["fp32", "bf16", "fp16"]
# The last is what is left where no algorithm of cuDNN found room to work in.
WANT_OF_MEMORY = ("allocate memory", "ALLOC_FAILED", "out of memory", "unable to find an engine")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, and what its networks compute in."""

    torch_device: torch.device
    precision: Precision

    def autocast(self) -> torch.autocast:
        """The context in which networks run; losses and sums stay in single precision."""
        return torch.autocast(
            self.torch_device.type, DTYPES[self.precision], enabled=self.precision != "fp32"
        )


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error is for want of memory; on a CPU torch has no type of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and any(words in told for words in WANT_OF_MEMORY)


def choose_device(name: str | None = None, precision: Precision | None = None) -> Device:
    """A device by name (`cpu`, `cuda:1`), or the first GPU that torch can use, else the CPU.

    Unless a precision is given, a GPU computes in bfloat16, older ones in half precision; a CPU in
    bfloat16 where its hardware multiplies that quickly. Raises AutosegError for a device that is
    not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cpu" and not index:
        if precision == "fp16":
            raise AutosegError("--precision fp16: is for GPUs. Use bf16 or fp32 on a CPU.")
        fastest: Precision = "bf16" if cpu_has_bf16() else "fp32"
        return Device(torch.device("cpu"), precision or fastest)
    there = torch.cuda.device_count()
    if kind != "cuda" or not (index or "0").isdecimal() or int(index or 0) >= there:
        gpus = ", ".join(f"cuda:{i}" for i in range(there))
        raise AutosegError(
            f"--device {name}: there is no such device. Devices: cpu{gpus and ', '}{gpus}."
        )
    device = torch.device("cuda", int(index or 0))
    with torch.cuda.device(device):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(device, precision or ("bf16" if bf16 else "fp16"))
