"""How a network runs fastest on the device that is there: as it is, channels last, or compiled."""

import copy
import logging
import statistics
import time
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from autoseg.device import Device
from autoseg.planning.plan import Form

log = logging.getLogger(__name__)

STEPS = 5
WARM_UP = 2  # steps that compile, or in which cuDNN looks for its fastest algorithms
WORTHWHILE = 0.95  # of the time of what is simpler
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def in_form(network: nn.Module, form: Form) -> nn.Module:
    """The network in a form; the weights are the same."""
    if form == "eager":
        return network
    if form == "compiled":
        return cast(nn.Module, torch.compile(network))
    for parameter in network.parameters():
        if parameter.ndim in CHANNELS_LAST:
            parameter.data = parameter.data.contiguous(memory_format=CHANNELS_LAST[parameter.ndim])
    return network


def image_in_form(image: torch.Tensor, form: Form) -> torch.Tensor:
    """A batch of images laid out as a form wants it."""
    if form == "channels_last":
        return image.contiguous(memory_format=CHANNELS_LAST[image.ndim])
    return image


@dataclass(frozen=True, slots=True)
class Trial:
    """What forms are tried with: a network, a batch of images, and how it is called, where."""

    network: nn.Module
    image: torch.Tensor
    arguments: dict[str, bool]
    device: Device

    def seconds(self, form: Form) -> float:
        """Seconds of a forward and backward pass in a form, on a copy of the network."""
        runs = in_form(copy.deepcopy(self.network), form)
        image = image_in_form(self.image, form)
        seconds = []
        for _ in range(STEPS):
            started = time.perf_counter()
            with self.device.autocast():
                logits = runs(image, **self.arguments)
            outputs = logits if isinstance(logits, list) else [logits]
            total = torch.stack([output.float().square().mean() for output in outputs]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            runs.zero_grad(set_to_none=True)
            if self.device.torch_device.type == "cuda":
                torch.cuda.synchronize(self.device.torch_device)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[WARM_UP:])


def fastest_form(trial: Trial) -> Form:
    """The form whose forward and backward passes of a batch take the least time, measured here.

    A form that is not at least a twentieth faster than a simpler one is not worth it. One that
    fails, as compilation may for want of a compiler, is left out with a warning.
    """
    best: Form = "eager"
    best_s = trial.seconds(best)
    forms: tuple[Form, ...] = ("channels_last", "compiled")
    for form in forms:
        seconds = seconds_if_it_runs(trial, form)
        if seconds is not None and seconds < WORTHWHILE * best_s:
            best, best_s = form, seconds
    return best


def seconds_if_it_runs(trial: Trial, form: Form) -> float | None:
    """Seconds of a step; None, with a warning, where the form fails or does not fit into memory."""
    try:
        return trial.seconds(form)
    except Exception as error:  # of any kind: compilers are many
        reason = str(error).strip().partition("\n")[0]
        log.warning("Networks are not run %s here: %s", form.replace("_", " "), reason)
        return None
