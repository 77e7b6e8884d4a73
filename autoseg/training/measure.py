"""What a training step really takes on this machine: memory and time."""

import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from autoseg.checkpoint import build_network
from autoseg.losses import deep_supervision_loss
from autoseg.machine import GIB
from autoseg.planning.plan import Configuration

STEPS = 4  # the first warms up
KIB = 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """Peak memory of training, without the program itself, and seconds of a step.

    Both are None when the step did not fit into memory.
    """

    peak_memory_gb: float | None
    step_seconds: float | None


def measure_training(
    configuration: Configuration, channel_count: int, class_count: int, device: str, bf16: bool
) -> Measurement:
    """Run a few training steps on random patches, in a process of its own.

    `device` is `cpu` or `cuda`. On a CPU the peak is that of the process beyond what it had before
    the network was built; on a GPU that of torch's allocator.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        task = pool.submit(_measure, configuration, channel_count, class_count, device, bf16)
        try:
            return task.result()
        except BrokenProcessPool:  # killed for want of memory
            return Measurement(None, None)


def _measure(
    configuration: Configuration, channel_count: int, class_count: int, device: str, bf16: bool
) -> Measurement:
    try:
        return _run_steps(configuration, channel_count, class_count, torch.device(device), bf16)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        return Measurement(None, None)
    except RuntimeError as error:
        if "allocate memory" in str(error):  # what torch says on a CPU
            return Measurement(None, None)
        raise


def _run_steps(
    configuration: Configuration,
    channel_count: int,
    class_count: int,
    device: torch.device,
    bf16: bool,
) -> Measurement:
    before = _peak_bytes(device)
    network = build_network(configuration, channel_count, class_count).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.99, nesterov=True)
    shape = (configuration.batch_size, channel_count, *configuration.patch_size_vox)
    image = torch.randn(shape, device=device)
    label = torch.randint(
        len(configuration.loss.regions) or class_count,
        (shape[0], *shape[2:]),
        device=device,
        dtype=torch.uint8,
    )
    seconds = []
    for _ in range(STEPS):
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = network(image, all_resolutions=True)
        optimizer.zero_grad(set_to_none=True)
        deep_supervision_loss(logits, label, configuration.loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.monotonic() - started)
    peak = (_peak_bytes(device) - before) / GIB
    return Measurement(peak, statistics.median(seconds[1:]))


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    # Not ru_maxrss, which on Linux starts at what the parent process had.
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * KIB
