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

from autoseg.checkpoint import build_network
from autoseg.dataset.dataset import LabelScheme
from autoseg.device import Device
from autoseg.machine import GIB
from autoseg.planning.plan import Configuration
from autoseg.tasks.losses import deep_supervision_loss
from autoseg.training.learner import Learner

STEPS = 4  # the first warms up
SMALL_RATE = 1e-6  # what random patches teach does not matter
KIB = 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """Peak memory of training, without the program itself, and seconds of a step.

    Both are None when the step did not fit into memory.
    """

    peak_memory_gib: float | None
    step_seconds: float | None


def measure_training(
    configuration: Configuration, labels: LabelScheme, device: Device
) -> Measurement:
    """Run a few training steps on random patches, in a process of its own.

    On a CPU the peak is that of the process beyond what it had before
    the network was built; on a GPU that of torch's allocator.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        task = pool.submit(_measure, configuration, labels, device)
        try:
            return task.result()
        except BrokenProcessPool:  # killed for want of memory
            return Measurement(None, None)


def _measure(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
    try:
        return _run_steps(configuration, labels, device)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        return Measurement(None, None)
    except RuntimeError as error:
        if "allocate memory" in str(error):  # what torch says on a CPU
            return Measurement(None, None)
        raise


def _run_steps(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
    where = device.torch_device
    before = _peak_bytes(where)
    network = build_network(configuration, labels).to(where)
    learner = Learner(network, configuration, device)
    channels = next(network.parameters()).shape[1]
    shape = (configuration.batch_size, channels, *configuration.patch_size_vox)
    image = torch.randn(shape, device=where)
    label = torch.randint(
        len(labels.values), (shape[0], *shape[2:]), device=where, dtype=torch.uint8
    )
    arguments = {"all_resolutions": True} if configuration.network.deep_supervision else {}
    seconds = []
    for step in range(STEPS):
        started = time.monotonic()
        with device.autocast():
            logits = network(image, **arguments)
        outputs = logits if isinstance(logits, list) else [logits]
        learner.add_gradient(deep_supervision_loss(outputs, label, configuration.loss))
        learner.step(SMALL_RATE, step)
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        seconds.append(time.monotonic() - started)
    peak = (_peak_bytes(where) - before) / GIB
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
