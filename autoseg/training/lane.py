"""A stream of its own for what is made beside the network's work on a GPU."""

import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np
import torch

log = logging.getLogger(__name__)


class Lane:
    """What is asked of a GPU within its context runs beside everything else there.

    Elsewhere the context does nothing, since there is one order of work alone.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.done: torch.cuda.Event | None = None
        self.context = torch.cuda.stream(self.stream)
        self.pinned: list[int] = []  # addresses

    @property
    def is_separate(self) -> bool:
        return self.stream is not None

    def __enter__(self) -> Self:
        self.context.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.stream is not None:
            self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.done.record(self.stream)
        self.context.__exit__(kind, error, trace)

    def pin(self, memory: memoryview) -> None:
        """Let a GPU copy from this memory by itself; otherwise the host would have to help."""
        if self.stream is None:
            return
        address = np.frombuffer(memory, np.uint8).ctypes.data
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        failed = int(runtime.cudaHostRegister(address, memory.nbytes, 0))
        if failed:  # such as where the system limits what may be locked
            log.warning("Memory to read into cannot be pinned (error %d); copies wait.", failed)
        else:
            self.pinned.append(address)

    def close(self) -> None:
        """Let go of memory that was pinned, once everything is copied."""
        for address in self.pinned:
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaHostUnregister(address)  # type: ignore[no-untyped-call]
        self.pinned = []

    def hand_over(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let the current stream use tensors that were last made here, once they are."""
        if self.done is None:
            return
        here = torch.cuda.current_stream()
        here.wait_event(self.done)
        for tensor in tensors:  # whose memory must not be used again before
            tensor.record_stream(here)
