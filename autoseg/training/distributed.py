"""Processes that train one model together, each on its share of every batch."""

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from autoseg.errors import AutosegError

PATIENCE = timedelta(minutes=10)  # with a process that should be at the same step
SILENCE_S = 300.0  # of the main process, after which it is taken to be lost
HEARTBEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of a training as one of them sees them; that of rank 0 prepares, reports and
    saves."""

    rank: int = 0
    world_size: int = 1
    store: Any = None  # torch's, to wait for the main process with

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Which samples of a batch are this process's. Raises AutosegError when it has none."""
        if batch_size < self.world_size:
            raise AutosegError(
                f"A batch of {batch_size} cannot be shared by {self.world_size} processes. Start "
                f"{batch_size} with torchrun, or plan with --set batch_size={self.world_size}."
            )
        first, last = (batch_size * n // self.world_size for n in (self.rank, self.rank + 1))
        return range(first, last)

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, with its gradient."""
        if self.world_size == 1:
            return values
        total: torch.Tensor = _AllReduce.apply(values)  # type: ignore[no-untyped-call]
        return total

    def broadcast(self, *values: float) -> tuple[float, ...]:
        """What the main process says, so that all do the same."""
        if self.world_size == 1:
            return values
        said = torch.tensor(values, dtype=torch.double)
        dist.broadcast(said, 0)
        return tuple(said.tolist())

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are averaged over the processes."""
        return network if self.world_size == 1 else DistributedDataParallel(network)

    def gradients_shared(self, network: nn.Module, now: bool) -> AbstractContextManager[None]:
        """The context of a forward and backward pass, after which gradients are averaged now, or
        with those of a later one."""
        if now or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        later: AbstractContextManager[None] = network.no_sync()
        return later

    def main_alone(self, work: Callable[[], None], what: str) -> None:
        """Let the main process do something, however long it takes, while the others wait.

        Raises AutosegError in the others when it failed, or has not been heard of for minutes.
        """
        if self.world_size == 1:
            return work()
        turn = self.store.add(f"{what}/turns of {self.rank}", 1)  # so that it can be done again
        if self.is_main:
            return self._work_aloud(work, f"{what}/{turn}")
        try:
            return self._listen(f"{what}/{turn}", what)
        except dist.DistError as error:  # the main process kept the store, and took it along
            raise AutosegError(
                f"The first process was lost while it should be {what}. See its output; --resume "
                "goes on."
            ) from error

    def _work_aloud(self, work: Callable[[], None], key: str) -> None:
        ended = threading.Event()

        def beat() -> None:
            count = 0
            while not ended.wait(HEARTBEAT_S):
                count += 1
                self.store.set(f"{key}/beat", str(count))

        self.store.set(f"{key}/beat", "0")
        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        outcome = "failed"
        try:
            work()
            outcome = "done"
        finally:
            ended.set()
            heart.join()
            self.store.set(f"{key}/outcome", outcome)
            self._stay_until_heard(key)

    def _stay_until_heard(self, key: str) -> None:
        """For the store may end with this process; but not for those that are lost."""
        asked = time.monotonic()
        while self.store.add(f"{key}/heard", 0) < self.world_size - 1:
            if time.monotonic() - asked > 2 * HEARTBEAT_S:
                return
            time.sleep(0.05)

    def _listen(self, key: str, what: str) -> None:
        heard, last = time.monotonic(), b""
        while not self.store.check([f"{key}/outcome"]):
            time.sleep(min(HEARTBEAT_S, 0.2))
            if self.store.check([f"{key}/beat"]):
                beat = self.store.get(f"{key}/beat")
                if beat != last:
                    heard, last = time.monotonic(), beat
            if time.monotonic() - heard > SILENCE_S:
                raise AutosegError(
                    f"The first process has not been heard of for {SILENCE_S:.0f} seconds while it "
                    f"should be {what}. See its output; --resume goes on."
                )
        outcome = self.store.get(f"{key}/outcome")
        self.store.add(f"{key}/heard", 1)
        if outcome != b"done":
            raise AutosegError(f"The first process failed while {what}, and says why.")


SINGLE = ProcessGroup()


def join_group(rank: int, world_size: int) -> ProcessGroup:
    """Meet the other processes that `torchrun` started. Raises AutosegError when they do not come.

    Tensors on a GPU travel by NCCL, those in memory by Gloo.
    """
    if world_size == 1:
        return SINGLE
    try:
        store = _initialize(rank, world_size)
        dist.barrier()
    except (ValueError, RuntimeError) as error:
        raise AutosegError(
            f"The {world_size} processes did not meet: {error}. Start them with torchrun."
        ) from None
    return ProcessGroup(rank, world_size, store)


@cache  # for all folds
def _initialize(rank: int, world_size: int) -> Any:
    store, *_ = next(rendezvous("env://", rank=rank, world_size=world_size))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE
    )
    atexit.register(dist.destroy_process_group)
    return store


class _AllReduce(torch.autograd.Function):
    """Every process's result depends on every process's values, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
