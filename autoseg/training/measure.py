"""What a training step really takes on this machine: memory and time."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from autoseg.checkpoint import build_network
from autoseg.dataset.labels import LabelScheme
from autoseg.device import Device, ran_out_of_memory, use_device
from autoseg.machine import GIB
from autoseg.networks import family_of
from autoseg.networks.family import all_outputs
from autoseg.parallel import script_aside
from autoseg.planning.expectation import PASSES
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan
from autoseg.planning.network_plan import StagePlan, UNetPlan
from autoseg.planning.plan import Configuration
from autoseg.tasks import task_of
from autoseg.training.execution import Trial
from autoseg.training.learner import Learner

Result = TypeVar("Result")

STEPS = 4  # the first warms up
SMALL_RATE = 1e-6  # what random patches teach does not matter
KIB = 1024
RATE_STAGES, RATE_BATCH, RATE_PATCH_VOX = 4, 2, (96, 96, 96)


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
    found = _in_a_process(_run_steps, configuration, labels, device)
    return Measurement(None, None) if found is None else found


def measured_rate(device: Device) -> float | None:
    """Multiply-adds a second of training a U-Net of common width on a device, in a process of its
    own; None when not even that fits into memory."""
    return _in_a_process(_rate_of, device)


def _in_a_process(work: Callable[..., Result], *given: Any) -> Result | None:
    """What a function finds in a process of its own; None when memory did not suffice."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with script_aside():
            task = pool.submit(work, *given)
        try:
            return task.result()
        except BrokenProcessPool:  # killed for want of memory
            return None
        except (RuntimeError, MemoryError) as error:
            if ran_out_of_memory(error):
                return None
            raise


def _rate_of(device: Device) -> float:
    use_device(device)
    stages = tuple(
        StagePlan(
            features=32 * 2**level,
            kernel_size=(3, 3, 3),
            stride=(2, 2, 2) if level else (1, 1, 1),
            blocks=2,
            decoder_blocks=2 if level < RATE_STAGES - 1 else 0,
        )
        for level in range(RATE_STAGES)
    )
    plan = UNetPlan(
        kind="plain_unet", stages=stages, norm="instance", activation="leaky_relu", bias=True,
        upsampling="transposed", deep_supervision=False,
    )  # fmt: skip
    model = ModelPlan(
        patch_size_vox=RATE_PATCH_VOX,
        inputs=(ScanInput(channels=("image",)),),
        network=plan,
        task=SemanticPlan(classes=2),
    )
    network = build_network(model).to(device.torch_device)
    image = torch.randn(RATE_BATCH, 1, *RATE_PATCH_VOX, device=device.torch_device)
    seconds = Trial(network, plan, image, device).seconds("eager")
    return PASSES * RATE_BATCH * family_of(plan.kind).cost(model).multiply_adds / seconds


def _run_steps(configuration: Configuration, labels: LabelScheme, device: Device) -> Measurement:
    use_device(device)
    where = device.torch_device
    before = _peak_bytes(where)
    model, task = configuration.model, task_of(configuration, labels)
    network = build_network(model).to(where)
    learner = Learner(network, configuration, device)
    shape = (configuration.run.batch_size, len(model.channel_names), *model.patch_size_vox)
    image = torch.randn(shape, device=where)
    label = torch.randint(
        len(labels.values), (shape[0], *shape[2:]), device=where, dtype=torch.uint8
    )
    accumulates = configuration.run.training.accumulated_batches > 1
    seconds = []
    for step in range(STEPS):
        started = time.monotonic()
        with device.autocast():
            outputs = all_outputs(network, image, model.network)
        learner.add_gradient(task.loss(outputs, task.targets(label, label.int())))
        if step or not accumulates:  # gradients are held while the next batch runs
            learner.step(SMALL_RATE, step)
        device.synchronize()
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
