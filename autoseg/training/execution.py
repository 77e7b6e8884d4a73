"""How a network is executed fastest on the device that is there: as it is, channels last,
compiled, or both."""

import logging
import statistics
import time
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import nn

from autoseg.device import Device
from autoseg.networks.family import all_outputs
from autoseg.planning.network_plan import NetworkPlan
from autoseg.planning.run_plan import Execution

log = logging.getLogger(__name__)

STEPS = 5
WARM_UP = 2  # steps that compile, or in which cuDNN looks for its fastest algorithms
WORTHWHILE = 0.95  # of the time of what is simpler
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


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
        total = torch.stack([output.float().square().mean() for output in outputs]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad(set_to_none=True)
        self.device.synchronize()
        return time.perf_counter() - started


def fastest_execution(trial: Trial) -> Execution:
    """The one whose forward and backward passes of a batch take the least time, measured here.

    One that is not at least a twentieth faster than a simpler one is not worth it. One that
    fails, as compilation may for want of a compiler, is left out with a warning.
    """
    best: Execution = "eager"
    best_s = trial.seconds(best)
    for execution in get_args(Execution)[1:]:
        seconds = seconds_if_it_runs(trial, execution)
        if seconds is not None and seconds < WORTHWHILE * best_s:
            best, best_s = execution, seconds
    return best


def seconds_if_it_runs(trial: Trial, execution: Execution) -> float | None:
    """Seconds of a step; None, with a warning, where it fails or does not fit into memory."""
    try:
        return trial.seconds(execution)
    except Exception as error:  # of any kind: compilers are many
        reason = str(error).strip().partition("\n")[0]
        log.warning("Networks are not run %s here: %s", execution.replace("_", " "), reason)
        return None
