"""Networks compiled by OpenVINO, which is the fastest on CPUs."""

import contextlib
import importlib.util
import logging
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from autoseg.errors import AutosegError, EngineError
from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.kept import keep, recall
from autoseg.machine import available_cores

log = logging.getLogger(__name__)

TELEMETRY = "openvino_telemetry"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
SMALL_VOXELS = 2**20  # of patches that are run beside each other


def is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def make_openvino_runner(request: EngineRequest) -> Runner:
    """The network compiled for this CPU, with as many threads as torch may use at the time.

    Raises AutosegError when OpenVINO is not installed or cannot compute in the device's precision,
    and EngineError when it cannot run the network.
    """
    if not is_installed():
        raise AutosegError(
            "--engine openvino: it is not installed. Install it with pip install "
            "'autoseg[openvino]', or use --engine torch."
        )
    if request.device.torch_device.type != "cpu" or request.device.precision not in PRECISIONS:
        raise AutosegError(
            f"--engine openvino: computes on the CPU in {' or '.join(PRECISIONS)}, not on "
            f"{request.device.name} in {request.device.precision}. Use --engine torch."
        )
    openvino = _import_openvino()
    compiled = _Compiled(request)
    own = threading.local()  # a request serves one thread at a time

    def run(patches: torch.Tensor) -> torch.Tensor:
        network, beside = compiled.for_free_cores()
        if getattr(own, "network", None) is not network:
            own.network = network
            own.requests = [network.create_infer_request() for _ in range(compiled.streams)]
            own.logits = torch.empty(0)
        if len(own.logits) < len(patches):  # pages of memory are slow to get anew for each patch
            shape = (len(patches), *network.output(0).shape[1:])
            own.logits = torch.empty(shape, dtype=torch.float32)
        inputs = [patch[None].contiguous().numpy() for patch in patches]
        outputs = [own.logits[i : i + 1].numpy() for i in range(len(patches))]
        for first in range(0, len(patches), beside):
            block = slice(first, first + beside)
            running = list(zip(own.requests, inputs[block], outputs[block], strict=False))
            for inference, one, logits in running:
                inference.set_output_tensor(openvino.Tensor(logits, shared_memory=True))
                inference.start_async([one], share_inputs=True)
            for inference, *_ in running:
                inference.wait()
        found: torch.Tensor = own.logits[: len(patches)]
        return found

    return run


def streams_for(patch_shape: tuple[int, ...]) -> int:
    """How many patches [channel, *space] are run beside each other, each on cores of its own: where
    they are small.

    Two of 32x128x128 voxels on two cores take two thirds of the time of one after the other.
    """
    return max(1, min(available_cores(), SMALL_VOXELS // prod(patch_shape[1:])))


class _Compiled:
    """A network compiled for all cores, which follows the threads that torch may use at the time.

    Where patches are run beside each other, there are fewer of them when cores are few; else the
    network is read again from where it is kept, for fewer threads, in hundredths of a second.
    """

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.streams = request.streams or streams_for(request.patch_shape)
        self.most = torch.get_num_threads()
        self.threads = available_cores()
        self.network = _compile(request, self.streams)

    def for_free_cores(self) -> tuple[Any, int]:
        """The network, and how many patches are to be run beside each other."""
        share = min(1.0, torch.get_num_threads() / self.most)
        if self.streams > 1:
            return self.network, max(1, round(self.streams * share))
        threads = max(1, round(available_cores() * share))
        if threads != self.threads:
            self.threads = threads
            self.network = _kept(self.request, 1, threads) or self.network
        return self.network, 1


def _settings(request: EngineRequest, streams: int) -> dict[str, Any]:
    precision = "fp32" if request.places else request.device.precision
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": available_cores(),
    }


def _kept_at(request: EngineRequest, settings: dict[str, Any], core: Any) -> Path | None:
    openvino = _import_openvino()
    cpu = f"{platform.machine()} {core.get_property('CPU', 'FULL_DEVICE_NAME')}"
    return request.kept_path(f"{settings} {openvino.__version__} {cpu}", ".openvino")


def _kept(request: EngineRequest, streams: int, threads: int) -> Any:
    """The network as it was compiled before, for so many threads; None where it was not."""
    core, settings = _import_openvino().Core(), _settings(request, streams)
    blob = recall(_kept_at(request, settings, core))
    if blob is None:
        return None
    with contextlib.suppress(RuntimeError):  # cut short, or of another build
        return core.import_model(blob, "CPU", settings | {"INFERENCE_NUM_THREADS": threads})
    return None


def _compile(request: EngineRequest, streams: int) -> Any:
    kept = _kept(request, streams, available_cores())
    if kept is not None:
        return kept
    core, settings = _import_openvino().Core(), _settings(request, streams)
    with torch.inference_mode(), warnings.catch_warnings(), _logging_kept():
        warnings.simplefilter("ignore")  # of torch's tracing, which OpenVINO relies on
        try:
            compiled = core.compile_model(_converted(request), "CPU", settings)
        except Exception as error:  # of many kinds, its own among them
            reason = str(error).strip().partition("\n")[0]
            raise EngineError(
                f"OpenVINO cannot run this network ({reason}). Use --engine torch."
            ) from error
    path = _kept_at(request, settings, core)
    if path is not None:
        keep(path, compiled.export_model().getvalue())
    return compiled


_conversions: "WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Any]]" = WeakKeyDictionary()


def _converted(request: EngineRequest) -> Any:
    """The network as OpenVINO's graph; once for all precisions, for it takes a second or two."""
    shape, graph = _conversions.get(request.network, (None, None))
    if shape != request.patch_shape:
        graph = _import_openvino().convert_model(
            request.network,
            example_input=torch.zeros(1, *request.example_shape),
            input=[(1, *request.patch_shape)],
        )
        _conversions[request.network] = request.patch_shape, graph
    return graph


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would write files and open connections."""
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    import openvino

    return openvino


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Put the root logger back as it was: OpenVINO's converter silences warnings for good."""
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters
