"""Changes of a batch whose numbers are made on the host, and travel to the device in one copy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ALIGNMENT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Change:
    """A function that changes tensors in place, and the arrays that it is called with.

    On the device nothing may need an answer from there: the host would have to wait for it.
    """

    apply: Callable[..., None]
    arrays: tuple[NDArray[Any], ...] = ()


def apply_changes(changes: Iterable[Change | None], device: torch.device) -> None:
    """Apply changes one after the other; None is none."""
    due = [change for change in changes if change is not None]
    sent = iter(send([array for change in due for array in change.arrays], device))
    for change in due:
        change.apply(*(next(sent) for _ in change.arrays))


def send(arrays: list[NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on a device, by a single copy that the host does not wait for."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    starts = np.cumsum([0, *(_rounded(array.nbytes) for array in arrays)]).tolist()
    packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for array, start in zip(arrays, starts, strict=False):
        here = packed[start : start + array.nbytes].numpy()
        here[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    there = packed.to(device, non_blocking=True)
    return [
        there[start : start + array.nbytes].view(_dtype(array)).view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]


def _dtype(array: NDArray[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
