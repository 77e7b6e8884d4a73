"""Networks run by ONNX Runtime, on CPUs and Nvidia's GPUs, there by TensorRT too if asked."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoseg.device import Precision
from autoseg.errors import AutosegError, EngineError
from autoseg.inference.engines.onnx_graph import (
    INPUT,
    OUTPUT,
    HalfPrecision,
    graph_version,
    missing_packages,
    onnx_graph,
)
from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.kept import keep, recall
from autoseg.machine import available_cores

RUNTIME = "onnxruntime"
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
ONLY_ERRORS = 3  # of ONNX Runtime's own messages

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """A part of ONNX Runtime that computes: the `engine` that it is to users, its own name, and
    what it is told; and what to say where it is not built in, or its libraries are missing."""

    engine: str
    name: str
    precisions: tuple[Precision, ...]
    options: Callable[[EngineRequest], Options]
    not_built_in: str
    unusable: str


def make_onnx_runner(request: EngineRequest) -> Runner:
    """The network as an ONNX graph, in single precision; a GPU rounds factors to TensorFloat-32.

    Raises AutosegError when ONNX Runtime is not installed for the device or cannot compute in its
    precision, and EngineError when it cannot run the network.
    """
    return _run_by(CPU if request.device.kind == "cpu" else CUDA, request)


def make_tensorrt_runner(request: EngineRequest) -> Runner:
    """The network compiled by TensorRT for this GPU, one patch at a time.

    Raises AutosegError when there is no GPU, or TensorRT is not installed or cannot compute in its
    precision, and EngineError when it cannot run the network.
    """
    if request.device.kind == "cpu":
        raise AutosegError(
            "--engine tensorrt: runs on Nvidia's GPUs only, not on the CPU. Use --device gpu, or "
            "--engine openvino."
        )
    run = _run_by(TENSORRT, request)

    def run_one_by_one(patches: torch.Tensor) -> torch.Tensor:
        return torch.cat([run(patches[index : index + 1]) for index in range(len(patches))])

    return run_one_by_one  # since it compiles anew for every number of patches


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry, which would number and report the computer."""
    os.environ[NO_TELEMETRY] = "1"  # it is looked at when the module is imported
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where another program has imported it before
    return onnxruntime


def open_graph(graph: bytes, provider: tuple[str, Options]) -> Any:
    """A session of ONNX Runtime with all cores."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = ONLY_ERRORS
    options.enable_cpu_mem_arena = False  # it would keep the most that a scan ever took
    return onnxruntime.InferenceSession(graph, options, [provider])


def _cuda_options(request: EngineRequest) -> Options:
    # Not the default, which tries every algorithm anew for each number of patches.
    return {"device_id": _index(request), "cudnn_conv_algo_search": "HEURISTIC"}


def _tensorrt_options(request: EngineRequest) -> Options:
    """Its compiled networks are kept in a folder for each set of weights, which its own names for
    them do not tell apart."""
    options: Options = {
        "device_id": _index(request),
        "trt_fp16_enable": request.device.precision == "fp16",
    }
    folder = request.kept_path(_graph_described(request), ".tensorrt")
    if folder is None:
        return options
    return options | {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}


def _index(request: EngineRequest) -> int:
    return request.device.torch_device.index or 0


CPU = Provider(
    engine="onnxruntime",
    name="CPUExecutionProvider",
    precisions=("fp32",),
    options=lambda request: {},
    not_built_in="the one that is installed does not run on CPUs. Use --engine torch.",
    unusable="cannot use this CPU. Use --engine torch.",
)
CUDA = Provider(
    engine="onnxruntime",
    name="CUDAExecutionProvider",
    precisions=("fp32",),
    options=_cuda_options,
    not_built_in=(
        "the one that is installed runs on CPUs only. Install onnxruntime-gpu in its place, or use "
        "--device cpu."
    ),
    unusable=(
        "cannot use this GPU; CUDA's or cuDNN's libraries are missing or of another version than "
        "onnxruntime-gpu needs. Use --engine torch."
    ),
)
TENSORRT = Provider(
    engine="tensorrt",
    name="TensorrtExecutionProvider",
    precisions=("fp32", "fp16"),
    options=_tensorrt_options,
    not_built_in=(
        "the ONNX Runtime that is installed was built without it. Install onnxruntime-gpu in place "
        "of onnxruntime, and TensorRT itself; or use --engine torch."
    ),
    unusable=(
        "it is not installed, or its libraries (libnvinfer) are of another version than "
        "onnxruntime-gpu needs. Install TensorRT, or use --engine torch."
    ),
)


def _run_by(provider: Provider, request: EngineRequest) -> Runner:
    if missing_packages(RUNTIME):
        raise AutosegError(
            f"--engine {provider.engine}: ONNX Runtime is not installed. Install it with pip "
            "install 'autoseg[onnxruntime]', or use --engine torch."
        )
    if provider.name not in import_onnxruntime().get_available_providers():
        raise AutosegError(f"--engine {provider.engine}: {provider.not_built_in}")
    if request.device.precision not in provider.precisions:
        able = " or ".join(provider.precisions)
        raise AutosegError(
            f"--engine {provider.engine}: computes in {able}, not in {request.device.precision}. "
            f"Use --precision {provider.precisions[0]}, or --engine torch."
        )
    session = _session(request, (provider.name, provider.options(request)))
    if session.get_providers()[0] != provider.name:
        raise AutosegError(f"--engine {provider.engine}: {provider.unusable}")
    return _bound(session, request.device.torch_device)


def _bound(session: Any, here: torch.device) -> Runner:
    """Runs a session on torch's own memory."""
    output_shape = session.get_outputs()[0].shape[1:]
    device = (here.type, here.index or 0, np.float32)

    def run(patches: torch.Tensor) -> torch.Tensor:
        patches = patches.contiguous()
        logits = torch.empty((len(patches), *output_shape), dtype=torch.float32, device=here)
        binding = session.io_binding()
        binding.bind_input(INPUT, *device, patches.shape, patches.data_ptr())
        binding.bind_output(OUTPUT, *device, logits.shape, logits.data_ptr())
        if here.type == "cuda":  # its streams are not torch's
            torch.cuda.current_stream(here).synchronize()
        session.run_with_iobinding(binding)
        return logits

    return run


def _session(request: EngineRequest, provider: tuple[str, Options]) -> Any:
    kept = request.kept_path(_graph_described(request), ".onnx")
    graph = recall(kept)
    if graph is not None:
        try:
            return open_graph(graph, provider)
        except Exception:  # of many kinds: cut short
            graph = None
    try:
        half = request.device.precision == "fp16"
        network = HalfPrecision(request.network) if half else request.network
        graph = onnx_graph(network, request.patch_shape)
        session = open_graph(graph, provider)
    except Exception as error:  # of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"ONNX Runtime cannot run this network ({reason}). Use --engine torch."
        ) from error
    keep(kept, graph)
    return session


def _graph_described(request: EngineRequest) -> str:
    return f"{graph_version()} {request.device.precision}"
