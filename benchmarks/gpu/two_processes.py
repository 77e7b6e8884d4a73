"""Two processes that train one model on one device, over Gloo, beside a single one."""

import multiprocessing
import os
import socket
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from autoseg.device import Device
from autoseg.pipeline.jobs import Rank
from autoseg.training import distributed
from autoseg.training.schedule import Budget
from autoseg.work_folder import WorkFolder
from benchmarks.gpu.part import Bench
from benchmarks.gpu.trainings import Watch, largest_difference, train

ITERATIONS, SMALL_ITERATIONS, PROCESSES = 20, 3, 2


def measure(bench: Bench) -> None:
    count = SMALL_ITERATIONS if bench.small else ITERATIONS
    options: dict[str, Any] = {
        "execution": "eager",
        "iterations_per_epoch": count,
        "validation_iterations": 1,
    }
    work, alone = bench.work("together", **options), bench.work("alone", **options)
    port = _free_port()
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=one_of_them, args=(work.root, bench.device, count, rank, port))
        for rank in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    single = train(alone, bench.device, Budget(iterations=count), Watch(), Event())
    for process in processes:
        process.join(max(1.0, bench.left_s - 2))
    codes = [process.exitcode for process in processes]
    bench.note(iterations=count, exit_codes=codes)
    (model,) = (work.root / "models").rglob("fold_0/model.safetensors")
    difference = largest_difference(model, single.folder / "model.safetensors")
    bench.note(largest_difference_from_one_process=difference)
    assert not any(codes), codes


def one_of_them(root: Path, device: Device, count: int, rank: int, port: int) -> None:
    """A rank of the training. NCCL does not let two of them share a GPU."""
    own = {"RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()})
    distributed._initialize = over_gloo
    place = Rank(rank=rank, world_size=PROCESSES, local_rank=rank, local_world_size=PROCESSES)
    train(WorkFolder(root), device, Budget(iterations=count), Watch(), Event(), rank=place)


@cache  # as what it takes the place of
def over_gloo(rank: int, world_size: int) -> Any:
    store, *_ = next(rendezvous("env://", rank=rank, world_size=world_size))
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(minutes=1)
    )
    return store


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
