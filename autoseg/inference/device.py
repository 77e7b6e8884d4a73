"""Where torch computes, and whether it does so in bfloat16."""

from dataclasses import dataclass

import torch

from autoseg.machine import detect_machine


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device; `bf16` where its hardware multiplies bfloat16 quickly."""

    torch_device: torch.device
    bf16: bool


def choose_device() -> Device:
    """The first GPU that torch can use, else the CPU."""
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Device(torch.device("cuda", 0), bf16)
    return Device(torch.device("cpu"), detect_machine().bf16)
