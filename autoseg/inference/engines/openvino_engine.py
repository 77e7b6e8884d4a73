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
from typing import Any

import torch

from autoseg.errors import AutosegError, EngineError
from autoseg.inference.engines.cache import keep, kept_path, recall
from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.machine import available_cores

log = logging.getLogger(__name__)

TELEMETRY = "openvino_telemetry"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
SMALL_VOXELS = 2**20  # of patches that are run beside each other


def is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def make_openvino_runner(request: EngineRequest) -> Runner:
    """The network compiled for this CPU, one patch at a time, with every core.

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
    streams = _streams(request)
    compiled = _compile(request, streams)
    own = threading.local()  # a request serves one thread at a time

    def run(patches: torch.Tensor) -> torch.Tensor:
        if not hasattr(own, "requests"):
            own.requests = [compiled.create_infer_request() for _ in range(streams)]
            own.logits = torch.empty(0)
        if len(own.logits) < len(patches):  # pages of memory are slow to get anew for each patch
            shape = (len(patches), *compiled.output(0).shape[1:])
            own.logits = torch.empty(shape, dtype=torch.float32)
        inputs = [patch[None].contiguous().numpy() for patch in patches]
        outputs = [own.logits[i : i + 1].numpy() for i in range(len(patches))]
        for first in range(0, len(patches), streams):
            block = slice(first, first + streams)
            running = list(zip(own.requests, inputs[block], outputs[block], strict=False))
            for inference, one, logits in running:
                inference.set_output_tensor(openvino.Tensor(logits, shared_memory=True))
                inference.start_async([one], share_inputs=True)
            for inference, *_ in running:
                inference.wait()
        found: torch.Tensor = own.logits[: len(patches)]
        return found

    return run


def _streams(request: EngineRequest) -> int:
    """How many patches are run beside each other, each on cores of its own: where they are small.

    Two of 32x128x128 voxels on two cores take two thirds of the time of one after the other.
    """
    return max(1, min(available_cores(), SMALL_VOXELS // prod(request.patch_shape[1:])))


def _compile(request: EngineRequest, streams: int) -> Any:
    openvino = _import_openvino()
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[request.device.precision],
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": available_cores(),
    }
    core = openvino.Core()
    cpu = f"{platform.machine()} {core.get_property('CPU', 'FULL_DEVICE_NAME')}"
    described = f"{settings} {openvino.__version__} {cpu}"
    kept = kept_path(request, described, ".openvino")
    blob = recall(kept)
    if blob is not None:
        with contextlib.suppress(RuntimeError):  # cut short, or of another build
            return core.import_model(blob, "CPU", settings)
    with torch.inference_mode(), warnings.catch_warnings(), _logging_kept():
        warnings.simplefilter("ignore")  # of torch's tracing, which OpenVINO relies on
        try:
            converted = openvino.convert_model(
                request.network,
                example_input=torch.zeros(1, *request.example_shape),
                input=[(1, *request.patch_shape)],
            )
            compiled = core.compile_model(converted, "CPU", settings)
        except Exception as error:  # of many kinds, its own among them
            reason = str(error).strip().partition("\n")[0]
            raise EngineError(
                f"OpenVINO cannot run this network ({reason}). Use --engine torch."
            ) from error
    if kept is not None:
        keep(kept, compiled.export_model().getvalue())
    return compiled


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
