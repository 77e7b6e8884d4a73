"""Which engine runs a network fastest here, how precisely, how many patches at once: measured, and
remembered for this computer."""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from math import inf, prod
from pathlib import Path

import torch

from autoseg.device import Device, Precision, hardware_of, precisions_to_try
from autoseg.errors import AutosegError
from autoseg.inference.engines import ENGINES, EngineName, EngineRequest, Runner
from autoseg.inference.engines.openvino_engine import is_installed, streams_for
from autoseg.inference.engines.request import TorchExecution
from autoseg.kept import keep, kept_path, recall
from autoseg.records import Record, parse_record

log = logging.getLogger(__name__)

VOXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**22}  # of patches that are run together
TRIAL_VOXELS = {"cpu": 2**17, "cuda": 2**22}  # of what is tried: more patches take as long for
# each, and a network that does the same at any size is tried on a smaller one
TRIAL_S = 1.0  # of measuring, after each way has run once
ROUNDS = 5
WORTHWHILE = 0.95  # of the time of what is simpler, or more exact
HOPELESS = 2.0  # times the fastest: not run again
PACKAGES = ("openvino", "onnxruntime")


class Way(Record):
    """How networks are run. OpenVINO runs `streams` patches beside each other; `together` are given
    to any engine at once, None being as many as suit their size."""

    engine: EngineName
    precision: Precision
    execution: TorchExecution = "eager"
    streams: int | None = None
    together: int | None = None

    def __str__(self) -> str:
        words = [str(self.engine), str(self.precision)]
        if self.execution != "eager":
            words.append(self.execution)
        if self.streams:
            words.append(f"{self.streams} beside each other")
        if self.together:
            words.append(f"{self.together} together")
        return " ".join(words)


class Choice(Record):
    """The fastest way, on which hardware, and seconds a patch of all that were tried."""

    way: Way
    hardware: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user wants of engine and precision; None is what is fastest."""

    engine: EngineName | None
    precision: Precision | None


def usual_way(asked: Asked, device: Device) -> Way:
    """The way that is likely to be fast, by what is installed and the processor's flags."""
    precision = asked.precision or device.precision
    if asked.engine in ("onnxruntime", "tensorrt"):
        return Way(engine=asked.engine, precision=asked.precision or "fp32")
    suits = device.kind == "cpu" and precision != "fp16" and is_installed()
    return Way(engine=asked.engine or ("openvino" if suits else "torch"), precision=precision)


def has_choice(asked: Asked, device: Device) -> bool:
    """Whether there is more than one way to do what was asked that is worth trying."""
    settled = asked.engine is not None and asked.precision is not None
    return not settled and usual_way(asked, device).engine not in ("onnxruntime", "tensorrt")


def choice_path(asked: Asked, key: str, device: Device, cache: Path) -> Path:
    """Where the choice is kept for a network and a patch that `key` stands for."""
    described = f"{key} {asked} {hardware_of(device)}{_engines_here()}"
    path = kept_path(cache, described, ".way")
    assert path is not None
    return path


def remembered(path: Path) -> Way | None:
    """What was chosen at an earlier start, if it can be read."""
    content = recall(path)
    if content is not None:
        with suppress(AutosegError, ValueError):  # cut short, or of another version
            return parse_record(Choice, json.loads(content), str(path)).way
    return None


def choose(asked: Asked, request: EngineRequest, path: Path) -> Way:
    """The fastest of the ways that do what was asked, measured now, and kept at a path."""
    seconds = measured(asked, request)
    if not seconds:
        return usual_way(asked, request.device)
    way = best(seconds)
    told = {str(tried): round(spent, 6) for tried, spent in seconds.items()}
    choice = Choice(way=way, hardware=hardware_of(request.device), seconds=told)
    keep(path, choice.model_dump_json(indent=2).encode())
    log.info("Networks are run by %s here (seconds a patch: %s).", way, told)
    return way


def best(seconds: dict[Way, float]) -> Way:
    """The fastest; one that is not at least a twentieth faster than those before it is not worth
    it."""
    found, shortest = next(iter(seconds.items()))
    for way, spent in seconds.items():
        if spent < WORTHWHILE * shortest:
            found, shortest = way, spent
    return found


def measured(asked: Asked, request: EngineRequest) -> dict[Way, float]:
    """Seconds a patch of each way that runs here: first of engines, precisions and executions, then
    for the fastest of them of how many patches are run at once."""
    trial = on_trial(request)
    found = _seconds(_ways(asked, request.device), trial)
    if not found and asked.engine is None:
        found = _seconds(_ways(replace(asked, engine="onnxruntime"), request.device), trial)
    if found and trial.patch_shape == request.patch_shape:  # else patches are large
        fastest = best(found)
        if others := _at_once(fastest, trial):
            found |= _seconds([fastest, *others], trial)
    return found


def on_trial(request: EngineRequest) -> EngineRequest:
    """The same for a smaller patch, where the network does the same at any size and its own would
    take long."""
    shape, divisors = list(request.patch_shape[1:]), request.example_shape[1:]
    most = TRIAL_VOXELS[request.device.torch_device.type]
    while prod(shape) > most and request.example_shape != request.patch_shape:
        longest = max(range(len(shape)), key=lambda axis: shape[axis] / divisors[axis])
        if shape[longest] <= divisors[longest]:
            break
        halved = -(-shape[longest] // (2 * divisors[longest])) * divisors[longest]
        shape[longest] = min(halved, shape[longest] - divisors[longest])
    if tuple(shape) == request.patch_shape[1:]:
        return request
    return replace(request, patch_shape=(request.patch_shape[0], *shape), cache=None)


def _ways(asked: Asked, device: Device) -> Iterator[Way]:
    precisions = (asked.precision,) if asked.precision else precisions_to_try(device)
    if device.kind == "gpu":
        for precision, execution in product(precisions, ("eager", "channels_last", "replayed")):
            yield Way(engine="torch", precision=precision, execution=execution)
        return
    engines: Iterable[EngineName] = (asked.engine,) if asked.engine else ("torch", "openvino")
    for precision, engine in product(precisions, engines):
        if engine != "openvino" or is_installed():
            yield Way(engine=engine, precision=precision)


def _at_once(way: Way, request: EngineRequest) -> list[Way]:
    """The same with one patch at a time, where there would be more."""
    if way.engine == "openvino" and streams_for(request.patch_shape) > 1:
        return [way.model_copy(update={"streams": 1})]
    if way.engine == "torch" and _tried_together(way, request) > 1:
        return [way.model_copy(update={"together": 1})]
    return []


def _tried_together(way: Way, request: EngineRequest) -> int:
    """How many patches an engine is given on trial."""
    if way.engine == "openvino":
        return way.streams or streams_for(request.patch_shape)
    voxels, device = prod(request.patch_shape[1:]), request.device.torch_device
    together = way.together or patches_together(device, voxels)
    return max(1, min(together, TRIAL_VOXELS[device.type] // voxels))


def patches_together(device: torch.device, voxels: int) -> int:
    """How many patches of so many voxels suit a device."""
    return max(1, VOXELS_AT_ONCE[device.type] // voxels)


def _seconds(ways: Iterable[Way], request: EngineRequest) -> dict[Way, float]:
    """Seconds a patch of those ways that run; in turn, so that what else works here slows all."""
    trials = {way: trial for way in ways if (trial := _trial(way, request)) is not None}
    spent: dict[Way, float] = dict.fromkeys(trials, inf)
    until = time.monotonic() + TRIAL_S
    for _ in range(ROUNDS):
        shortest = min(spent.values(), default=inf)
        for way, trial in trials.items():
            if spent[way] == inf or spent[way] < HOPELESS * shortest:
                spent[way] = min(spent[way], trial.seconds())
        if time.monotonic() > until:
            break
    return spent


@dataclass(frozen=True, slots=True)
class _Trial:
    """A batch of patches, and what runs them."""

    run: Runner
    patches: torch.Tensor
    device: Device

    def seconds(self) -> float:
        """Seconds a patch."""
        started = time.perf_counter()
        self.run(self.patches)
        self.device.synchronize()
        return (time.perf_counter() - started) / len(self.patches)


def _trial(way: Way, request: EngineRequest) -> _Trial | None:
    """What tries a way, run once already; None, with a warning, where it does not run here."""
    asked = request_of(way, request)
    patches = torch.zeros(_tried_together(way, request), *request.patch_shape).to(
        request.device.torch_device
    )
    try:
        trial = _Trial(ENGINES[way.engine](asked), patches, request.device)
        trial.seconds()
    except Exception as error:  # of many kinds: engines are many
        told = str(error).strip().partition("\n")[0]
        log.warning("Networks are not run by %s here: %s", way, told)
        return None
    return trial


def request_of(way: Way, request: EngineRequest) -> EngineRequest:
    """The request, to be run that way."""
    device = replace(request.device, precision=way.precision)
    return replace(request, device=device, streams=way.streams, execution=way.execution)


def _engines_here() -> str:
    """The versions of what may run networks besides torch."""
    found = []
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f", {name} {version(name)}")
    return "".join(found)
