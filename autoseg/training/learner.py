"""What training changes: weights, the optimiser's moments, the moving mean. All of it is saved."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.plan import Configuration
from autoseg.training.muon import Muon, is_dense

ADAM_FIRST_MOMENT, ADAM_SECOND_MOMENT = 0.9, 0.999
FUSED_ON = ("cuda",)  # where one kernel does it all, and skips a step without asking the host
SMALLEST_SCALE = 1.0  # of half precision; gradients that overflow even then are not finite


class Learner:
    """A network that learns; `model` is the network to use, the moving mean if there is one."""

    def __init__(self, network: nn.Module, configuration: Configuration, device: Device) -> None:
        self.network = network
        self.plan = plan = configuration.run.training
        self.optimizer = make_optimizer(network, configuration, device)
        self.scaler = torch.amp.GradScaler(
            device.torch_device.type, enabled=device.precision == "fp16"
        )
        self.average: nn.Module | None = None
        if plan.ema_decay is not None:
            self.average = copy.deepcopy(network).requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        return self.network if self.average is None else self.average

    def add_gradient(self, loss: torch.Tensor) -> None:
        """Backpropagate one of the batches that make up a step."""
        self.scaler.scale(loss / self.plan.accumulated_batches).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float, iteration: int) -> torch.Tensor:
        """Change the weights; the norm that the gradient had before it was clipped.

        Where that is not finite the weights stay as they are; it is 0 where half precision alone
        overflowed, and the next step is scaled less.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.gradient_clip_norm)
        if self.scaler.is_enabled():
            scale = self.scaler.scale(torch.ones((), device=norm.device))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            forgiven = ~torch.isfinite(norm) & (scale >= SMALLEST_SCALE)
            norm = norm.masked_fill(forgiven, 0)
        else:
            self._step_if_finite(norm)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and self.plan.ema_decay is not None:
            # A mean over few steps first, for initial weights are no use.
            decay = min(self.plan.ema_decay, (1 + iteration) / (10 + iteration))
            _move_towards(self.average, self.network, 1 - decay)
        return norm

    def _step_if_finite(self, norm: torch.Tensor) -> None:
        if self.optimizer.defaults.get("fused"):  # decides on the device, which is not waited for
            self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif torch.isfinite(norm):
            self.optimizer.step()

    def named_moments(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What the optimiser remembers of each parameter, by `moment.parameter`."""
        for name, parameter in self.network.named_parameters():
            for moment, value in self.optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    yield f"{moment}.{name}", value

    def set_moment(self, named: str, value: torch.Tensor) -> None:
        """Put back what `named_moments` gave."""
        moment, _, name = named.partition(".")
        parameter = self.network.get_parameter(name)
        # Adam counts its steps in memory, unless it is fused.
        counts_here = moment == "step" and not self.optimizer.defaults.get("fused")
        where = value.device if counts_here else parameter.device
        self.optimizer.state[parameter][moment] = value.to(where)


def make_optimizer(
    network: nn.Module, configuration: Configuration, device: Device
) -> torch.optim.Optimizer:
    """The plan's optimiser over all parameters that are to be trained.

    Parts that the plan freezes stop asking for gradients. Raises AutosegError when there are none
    of a name, or rates are to differ by layer in a network whose layers are not known.
    """
    plan = configuration.run.training
    _freeze(network, plan.frozen)
    matrices = _matrices(network) if plan.optimizer == "muon" else set()
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = _rate_factor(name, configuration)
            groups.setdefault((factor, name in matrices), []).append(parameter)
    if not groups:
        raise AutosegError("training.frozen: nothing is left to be trained. Freeze fewer parts.")
    described: list[dict[str, Any]] = [
        {"params": parameters, "rate_factor": factor}
        | ({"momentum": plan.momentum} if of_matrices else {})
        for (factor, of_matrices), parameters in groups.items()
    ]
    fused = device.torch_device.type in FUSED_ON
    if plan.optimizer == "muon":
        return Muon(
            described,
            lr=plan.learning_rate,
            betas=(ADAM_FIRST_MOMENT, ADAM_SECOND_MOMENT),
            weight_decay=plan.weight_decay,
            fused=fused,
        )
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(
            described,
            lr=plan.learning_rate,
            betas=(plan.momentum, ADAM_SECOND_MOMENT),
            weight_decay=plan.weight_decay,
            fused=fused,
        )
    sgd = torch.optim.SGD(
        described,
        lr=plan.learning_rate,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        nesterov=plan.momentum > 0,
        fused=fused,
    )
    return _with_still_momentum(sgd) if sgd.defaults["fused"] and plan.momentum else sgd


def _matrices(network: nn.Module) -> set[str]:
    """The names of weights that are matrices."""
    return {f"{name}.weight" for name, layer in network.named_modules() if is_dense(layer)}


def _with_still_momentum(sgd: torch.optim.SGD) -> torch.optim.SGD:
    """A fused optimiser whose first step may be one that is skipped: torch would then leave the
    momentum as the memory happened to be. From 0 a first step is what it always is."""
    for group in sgd.param_groups:
        for parameter in group["params"]:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _rate_factor(name: str, configuration: Configuration) -> float:
    """The share of the learning rate that a parameter learns at."""
    plan, network = configuration.run.training, configuration.model.network
    if plan.layer_decay == plan.head_rate == 1:
        return 1.0
    levels = family_of(network.kind).levels_from_output(network, name)
    if levels is None:
        raise AutosegError(
            f"training.layer_decay and training.head_rate: {name} is in no known layer of "
            f"{network.kind}. Leave them at 1."
        )
    return plan.head_rate if levels == 0 else float(plan.layer_decay**levels)


def _freeze(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    for prefix in prefixes:
        parts = [
            parameter
            for name, parameter in network.named_parameters()
            if name == prefix or name.startswith(f"{prefix}.")
        ]
        if not parts:
            there_are = sorted({name.partition(".")[0] for name, _ in network.named_parameters()})
            raise AutosegError(
                f"training.frozen: the network has no part {prefix!r}. Parts: "
                f"{', '.join(there_are)}, and what lies in them, such as encoder.0."
            )
        for parameter in parts:
            parameter.requires_grad_(False)


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, share: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(now)
