"""Processes that train one model together, each on its share of every batch."""

import atexit
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from autoseg.errors import AutosegError

PATIENCE = timedelta(hours=12)  # the first process prepares, and scores whole scans, alone


@dataclass(frozen=True, slots=True)
class Team:
    """One process of `size`; the first leads: it prepares, reports and saves."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Which samples of a batch are this process's. Raises AutosegError when it has none."""
        if batch_size < self.size:
            raise AutosegError(
                f"A batch of {batch_size} cannot be shared by {self.size} processes. Start "
                f"{batch_size} with torchrun, or plan with --set batch_size={self.size}."
            )
        return range(batch_size * self.rank // self.size, batch_size * (self.rank + 1) // self.size)

    def sum_up(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, with its gradient."""
        if self.size == 1:
            return values
        total: torch.Tensor = _SumUp.apply(values)  # type: ignore[no-untyped-call]
        return total

    def agree(self, *values: float) -> tuple[float, ...]:
        """What the leader says, so that all processes do the same."""
        if self.size == 1:
            return values
        said = torch.tensor(values, dtype=torch.double)
        dist.broadcast(said, 0)
        return tuple(said.tolist())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are averaged over the processes."""
        return network if self.size == 1 else DistributedDataParallel(network)


ALONE = Team()


def join_team(rank: int, size: int) -> Team:
    """Meet the other processes that `torchrun` started. Raises AutosegError when they do not come.

    Tensors on a GPU travel by NCCL, those in memory by Gloo.
    """
    if size == 1:
        return ALONE
    if not dist.is_initialized():  # for an earlier fold
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise AutosegError(
                f"The {size} processes did not meet: {error}. Start them with torchrun."
            ) from None
        atexit.register(dist.destroy_process_group)
    team = Team(rank, size)
    team.wait()
    return team


class _SumUp(torch.autograd.Function):
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
