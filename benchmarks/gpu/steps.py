"""Seconds of a training step for every execution, beside nnU-Net's own."""

import logging
import time
from dataclasses import replace
from typing import Any, get_args

import torch

from autoseg.checkpoint import build_network
from autoseg.device import Device
from autoseg.networks.family import all_outputs
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import Execution
from autoseg.tasks import task_of
from autoseg.training.execution import Trial, executed, fastest_execution, laid_out
from autoseg.training.learner import Learner
from benchmarks.gpu.part import Bench
from benchmarks.gpu.plans import labels_of, made_up, random_model, unet

STEPS, WARM_UP, CLASSES = 20, 4, 2
CHOOSING_NEEDS_S = 50.0  # about, with compiling


def measure(bench: Bench) -> None:
    """The presets M and L differ in their patches alone, so that L is measured with its own."""
    sides = (16, 16) if bench.small else (128, 160)
    plain = _plan(bench, "plain_unet", sides[0])
    bench.note(**{f"plain {sides[0]}": _ours(plain, bench.device, bench.on_gpu)})
    bench.note(nnunetv2=bench.ask_peer("steps", *_peer_words(bench, plain)))
    if bench.on_gpu:
        half = replace(bench.device, precision="fp16")
        bench.note(**{f"plain {sides[0]} fp16": _ours(plain, half, choose=False)})
    for name, side in zip("ML", sides, strict=True):
        residual = _plan(bench, "residual_unet", side)
        choose = bench.on_gpu and bench.left_s > CHOOSING_NEEDS_S
        bench.note(**{f"residual {name} {side}": _ours(residual, bench.device, choose)})


def _plan(bench: Bench, kind: str, side: int) -> Configuration:
    features = 8 if bench.small else 32
    return made_up(bench.plan()[1], unet(kind, (side,) * 3, features), (side,) * 3, CLASSES)


def _peer_words(bench: Bench, plan: Configuration) -> tuple[object, ...]:
    _, folder = random_model(bench.scratch / "steps", plan)
    return folder, STEPS, WARM_UP


def _ours(plan: Configuration, device: Device, choose: bool) -> dict[str, Any]:
    """Milliseconds of a step, by execution; with `choose`, which is found to be the fastest, and
    how long that took. Without, nothing is compiled."""
    torch.manual_seed(0)
    model, found = plan.model, dict[str, Any]()
    network = build_network(model).to(device.torch_device)
    shape = (plan.run.batch_size, 1, *model.patch_size_vox)
    image = torch.randn(shape, device=device.torch_device)
    every: tuple[Execution, ...] = get_args(Execution)
    executions = [name for name in every if choose or not name.startswith("compiled")]
    if choose:
        started = time.perf_counter()
        found["chosen"] = fastest_execution(Trial(network, model.network, image, device))
        found["choosing_s"] = round(time.perf_counter() - started, 1)
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
