"""How a network is executed fastest on the device that is there: as it is, channels last,
compiled, or both."""

import json
import logging
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from autoseg.device import Device, Precision, hardware_of
from autoseg.errors import AutosegError
from autoseg.kept import recall
from autoseg.networks.cpu_training import CHANNELS_LAST
from autoseg.networks.family import all_outputs
from autoseg.planning.network_plan import NetworkPlan
from autoseg.planning.run_plan import Execution
from autoseg.records import Record, parse_record

log = logging.getLogger(__name__)

STEPS = 5
WARM_UP = 2  # steps that compile, or in which cuDNN looks for its fastest algorithms
WORTHWHILE = 0.95  # of the time of what is simpler


def executed(network: nn.Module, execution: Execution) -> nn.Module:
    """The network to be called so; the weights are the same.

    Compiling one network again, laid out alike, takes what was compiled before.
    """
    for parameter in network.parameters():
        if parameter.ndim in CHANNELS_LAST:
            parameter.data = laid_out(parameter.data, execution)
    if execution in ("compiled", "compiled_channels_last"):
        return cast(nn.Module, torch.compile(network))
    return network


def laid_out(values: torch.Tensor, execution: Execution) -> torch.Tensor:
    """A batch of images, or a kernel, in memory as an execution wants it."""
    last = execution in ("channels_last", "compiled_channels_last")
    layout = CHANNELS_LAST[values.ndim] if last else torch.contiguous_format
    return values.contiguous(memory_format=layout)


@dataclass(frozen=True, slots=True)
class Trial:
    """What executions are tried with: a network and its plan, a batch of images, and a device."""

    network: nn.Module
    plan: NetworkPlan
    image: torch.Tensor
    device: Device

    def seconds(self, execution: Execution) -> float:
        """Seconds of a forward and backward pass; the network is as before, but for its layout."""
        network = executed(self.network, execution)
        image = laid_out(self.image, execution)
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        try:
            return statistics.median([self._step_s(network, image) for _ in range(STEPS)][WARM_UP:])
        finally:
            self.network.zero_grad(set_to_none=True)
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def _step_s(self, network: nn.Module, image: torch.Tensor) -> float:
        started = time.perf_counter()
        with self.device.autocast():
            outputs = all_outputs(network, image, self.plan)
        values = tree_leaves(outputs)  # some networks give more than a list of logits
        total = torch.stack([output.float().square().mean() for output in values]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad(set_to_none=True)
        self.device.synchronize()
        return time.perf_counter() - started


class HowToRun(Record):
    """How a network is executed in training, and what it computes in."""

    execution: Execution
    precision: Precision


class RunChoice(Record):
    """What was fastest, on which hardware, and seconds of a step of all that were tried."""

    run: HowToRun
    hardware: str
    seconds: dict[str, float]


def remembered_run(path: Path | None) -> HowToRun | None:
    """What was fastest at an earlier start, if that was kept and can be read."""
    content = recall(path)
    if content is not None:
        with suppress(AutosegError, ValueError):  # cut short, or of another version
            return parse_record(RunChoice, json.loads(content), str(path)).run
    return None


def fastest_run(
    trial: Trial, executions: Sequence[Execution], precisions: Sequence[Precision]
) -> RunChoice:
    """The way whose forward and backward passes of a batch take the least time, measured here: of
    precisions in the first of the executions, then of executions in that precision.

    One that is not at least a twentieth faster than those before it is not worth it. One that
    fails, as compilation may for want of a compiler, is left out with a warning. What scaling the
    loss costs in half precision, a pass over the gradients, is not counted.
    """
    ways = [HowToRun(execution=executions[0], precision=precision) for precision in precisions]
    seconds = _seconds_of(ways, trial)
    best = _best(seconds) or HowToRun(execution="eager", precision=trial.device.precision)
    seconds |= _seconds_of(
        [best.model_copy(update={"execution": execution}) for execution in executions[1:]], trial
    )
    told = {f"{way.execution} {way.precision}": round(spent, 5) for way, spent in seconds.items()}
    best = _best(seconds) or best
    return RunChoice(run=best, hardware=hardware_of(trial.device), seconds=told)


def _seconds_of(ways: Sequence[HowToRun], trial: Trial) -> dict[HowToRun, float]:
    """Seconds of a step of those that run."""
    found = {}
    for way in ways:
        device = replace(trial.device, precision=way.precision)
        seconds = seconds_if_it_runs(replace(trial, device=device), way.execution)
        if seconds is not None:
            found[way] = seconds
    return found


def _best(seconds: dict[HowToRun, float]) -> HowToRun | None:
    best: HowToRun | None = None
    for way, spent in seconds.items():
        if best is None or spent < WORTHWHILE * seconds[best]:
            best = way
    return best


def seconds_if_it_runs(trial: Trial, execution: Execution) -> float | None:
    """Seconds of a step; None, with a warning, where it fails or does not fit into memory."""
    try:
        return trial.seconds(execution)
    except Exception as error:  # of any kind: compilers are many
        reason = str(error).strip().partition("\n")[0]
        log.warning("Networks are not run %s here: %s", execution.replace("_", " "), reason)
        return None
