"""Seconds of a training step for every execution, beside nnU-Net's own."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import torch

from autoseg.checkpoint import build_network
from autoseg.device import Device, precisions_to_try
from autoseg.networks.family import all_outputs
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import Execution
from autoseg.tasks import task_of
from autoseg.training.execution import Trial, executed, fastest_run, laid_out
from autoseg.training.learner import Learner
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import labels_of, made_up, random_model, unet

STEPS, WARM_UP, CLASSES = 20, 4, 2
COMPILING_NEEDS_S = 50.0  # about
EVERY: tuple[Execution, ...] = get_args(Execution)
UNCOMPILED = tuple(name for name in EVERY if not name.startswith("compiled"))


def measure(bench: Bench) -> None:
    """The presets M and L differ in their patches alone, so that L is measured with its own."""
    sides = (16, 16) if bench.small else (128, 160)
    plain = _plan(bench, "plain_unet", sides[0])
    bench.note(**{f"plain {sides[0]}": _ours(plain, bench.device, _to_try(bench))})
    bench.note(nnunetv2=bench.ask_peer("steps", *_peer_words(bench, plain)))
    if bench.on_gpu:
        half = replace(bench.device, precision="fp16")
        bench.note(**{f"plain {sides[0]} fp16": _ours(plain, half, UNCOMPILED)})
    for name, side in zip("ML", sides, strict=True):
        residual = _plan(bench, "residual_unet", side)
        found = _ours(residual, bench.device, _to_try(bench))
        bench.note(**{f"residual {name} {side}": found})


def _to_try(bench: Bench) -> tuple[Execution, ...]:
    compiles = bench.on_gpu and bench.left_s > COMPILING_NEEDS_S
    return EVERY if compiles else UNCOMPILED


def _plan(bench: Bench, kind: str, side: int) -> Configuration:
    features = 8 if bench.small else 32
    return made_up(bench.plan()[1], unet(kind, (side,) * 3, features), (side,) * 3, CLASSES)


def _peer_words(bench: Bench, plan: Configuration) -> tuple[object, ...]:
    _, folder = random_model(bench.scratch / "steps", plan)
    return folder, STEPS, WARM_UP


def _ours(plan: Configuration, device: Device, executions: Sequence[Execution]) -> dict[str, Any]:
    """What a training finds to be the fastest of them, in any precision, how long that took, and
    milliseconds of whole steps by execution."""
    torch.manual_seed(0)
    model = plan.model
    network = build_network(model).to(device.torch_device)
    shape = (plan.run.batch_size, 1, *model.patch_size_vox)
    image = torch.randn(shape, device=device.torch_device)
    started, trial = time.perf_counter(), Trial(network, model.network, image, device)
    choice = fastest_run(trial, executions, precisions_to_try(device))
    found = choice.model_dump() | {"choosing_s": round(time.perf_counter() - started, 1)}
    for execution in executions:
        try:
            found[f"{execution}_ms"] = _step_ms(network, plan, image, device, execution)
        except RuntimeError as error:
            logging.getLogger(__name__).warning("%s: %s", execution, error)
            found[f"{execution}_ms"] = str(error).partition("\n")[0]
    return found


def _step_ms(
    network: torch.nn.Module,
    plan: Configuration,
    image: torch.Tensor,
    device: Device,
    execution: Execution,
) -> float:
    """Whole steps, asked for one after the other as a training does."""
    task = task_of(plan, labels_of(CLASSES))
    learner = Learner(network, plan, device)
    run, seen = executed(network, execution), laid_out(image, execution)
    label = torch.randint(0, CLASSES, (len(image), *image.shape[2:]), device=image.device)
    label = label.to(torch.uint8)
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            device.synchronize()
            started = time.perf_counter()
        with device.autocast():
            outputs = all_outputs(run, seen, plan.model.network)
        learner.add_gradient(task.loss(outputs, task.targets(label, label.int())))
        learner.step(1e-3, step)
    device.synchronize()
    return round(1000 * (time.perf_counter() - started) / STEPS, 2)
