"""How a training runs on the machine that is there: measured once, remembered, and kept to."""

from pathlib import Path
from typing import get_args

from torch import nn

from autoseg.device import Precision, hardware_of, precisions_to_try
from autoseg.kept import keep, kept_path
from autoseg.networks.inputs import network_input
from autoseg.planning.run_plan import Execution
from autoseg.training.batches import first_batch
from autoseg.training.execution import (
    HowToRun,
    Trial,
    fastest_run,
    remembered_run,
    seconds_if_it_runs,
)
from autoseg.training.job import Training
from autoseg.training.state import SavedState
from autoseg.version import __version__


def chosen_run(training: Training, network: nn.Module) -> HowToRun:
    """What is fastest here for a whole batch, of what plan and device allow; measured, unless it
    was before."""
    executions = _to_try(training)
    own = training.device.precision
    precisions = (own,) if training.cache is None else precisions_to_try(training.device)
    if len(executions) * len(precisions) == 1:
        return _agreed(training, _usable(training, network, executions[0], own))
    path = _kept_choice(training)
    run = remembered_run(path)
    if run is None:
        choice = fastest_run(_trial(training, network), executions, precisions)
        keep(path, choice.model_dump_json(indent=2).encode())
        run = choice.run
    else:
        run = _usable(training, network, run.execution, run.precision)
    return _agreed(training, run)


def _to_try(training: Training) -> tuple[Execution, ...]:
    every: tuple[Execution, ...] = get_args(Execution)
    planned = training.run.training.execution
    if planned == "fastest":
        return every
    if planned == "fastest_uncompiled":  # little is won where nothing remembers it
        return ("eager",) if training.cache is None else ("eager", "channels_last")
    return (planned,)


def run_again(training: Training, network: nn.Module, state: SavedState) -> HowToRun:
    """As the training ran before, as far as this machine can."""
    device = training.device
    able = state.precision in (device.precision, *precisions_to_try(device))
    precision = state.precision if able else device.precision
    return _agreed(training, _usable(training, network, state.execution, precision))


def _usable(
    training: Training, network: nn.Module, execution: Execution, precision: Precision
) -> HowToRun:
    """That, unless compiling does not work here: then as the network is."""
    if execution.startswith("compiled"):
        trial = _trial(training.computing_in(precision), network)
        if seconds_if_it_runs(trial, execution) is None:
            execution = "eager"
    return HowToRun(execution=execution, precision=precision)


def _kept_choice(training: Training) -> Path | None:
    """Where what is fastest is kept, for a network, a patch and this process's share of a batch."""
    share, plan = training.group.share(training.run.batch_size), training.run.training.execution
    model = training.configuration.model.model_dump_json()
    described = f"{model} {len(share)} {plan} {hardware_of(training.device)} {__version__}"
    return kept_path(training.cache, described, ".run")


def _trial(training: Training, network: nn.Module) -> Trial:
    """The network with its first batch of images."""
    model, batch = training.configuration.model, first_batch(training)
    image = network_input(batch.image, batch.maps, model.inputs)
    return Trial(network, model.network, image, training.device)


def _agreed(training: Training, run: HowToRun) -> HowToRun:
    """What the main process chose."""
    executions: tuple[Execution, ...] = get_args(Execution)
    precisions: tuple[Precision, ...] = get_args(Precision)
    chosen = executions.index(run.execution), precisions.index(run.precision)
    execution, precision = training.group.broadcast(*chosen)
    return HowToRun(execution=executions[int(execution)], precision=precisions[int(precision)])
