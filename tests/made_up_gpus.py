"""GPUs as torch describes them, on a computer that has none."""

from dataclasses import dataclass

import pytest
import torch

GIB = 2**30


@dataclass(frozen=True, slots=True)
class MadeUpGpu:
    """Memory that others hold is neither free nor ours; `error` is what asking for it raises."""

    name: str
    total_gib: float
    others_gib: float = 0.0
    ours_gib: float = 0.0  # held by the allocator of this process
    major: int = 9
    is_integrated: bool = False
    error: RuntimeError | None = None

    @property
    def total_memory(self) -> int:
        return int(self.total_gib * GIB)

    def free_and_total(self) -> tuple[int, int]:
        if self.error is not None:
            raise self.error
        return int((self.total_gib - self.others_gib - self.ours_gib) * GIB), self.total_memory


def install(patch: pytest.MonkeyPatch, *gpus: MadeUpGpu) -> None:
    """Let torch see these GPUs, in this order, and no others."""

    def at(device: torch.device | int) -> MadeUpGpu:
        return gpus[device if isinstance(device, int) else device.index]

    patch.setattr("autoseg.machine.GPU_DEVICES", ("null",))  # one that is always there
    patch.setattr("torch.cuda.is_available", lambda: bool(gpus))
    patch.setattr("torch.cuda.device_count", lambda: len(gpus))
    patch.setattr("torch.cuda.get_device_properties", at)
    patch.setattr("torch.cuda.mem_get_info", lambda device: at(device).free_and_total())
    patch.setattr("torch.cuda.memory_reserved", lambda device: int(at(device).ours_gib * GIB))
