"""Networks run by ONNX Runtime, on CPUs and Nvidia's GPUs."""

import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from autoseg.errors import AutosegError, EngineError
from autoseg.inference.engines.cache import keep, kept_path, recall
from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.machine import available_cores

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
NEEDED = ("onnx", "onnxruntime", "onnxscript")
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
ONLY_ERRORS = 3  # of ONNX Runtime's own messages


def make_onnx_runner(request: EngineRequest) -> Runner:
    """The network as an ONNX graph, in single precision; a GPU rounds factors to TensorFloat-32.

    Raises AutosegError when ONNX Runtime is not installed for the device or cannot compute in its
    precision, and EngineError when it cannot run the network.
    """
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        raise AutosegError(
            "--engine onnxruntime: it is not installed. Install it with pip install "
            "'autoseg[onnxruntime]', or use --engine torch."
        )
    onnxruntime = _import_onnxruntime()
    here = request.device.torch_device
    if PROVIDERS[here.type] not in onnxruntime.get_available_providers():
        raise AutosegError(
            "--engine onnxruntime: the one that is installed runs on CPUs only. Install "
            "onnxruntime-gpu in its place, or use --device cpu."
        )
    if request.device.precision != "fp32":
        raise AutosegError(
            f"--engine onnxruntime: computes in fp32, not in {request.device.precision}. Use "
            "--precision fp32, or --engine torch."
        )
    session = _session(request)
    if session.get_providers()[0] != PROVIDERS[here.type]:
        raise AutosegError(
            f"--engine onnxruntime: cannot use {request.device.name}; CUDA's or cuDNN's libraries "
            "are missing or of another version than onnxruntime-gpu needs. Use --engine torch."
        )
    output_shape = session.get_outputs()[0].shape[1:]
    device = (here.type, here.index or 0, np.float32)

    def run(patches: torch.Tensor) -> torch.Tensor:
        patches = patches.contiguous()
        logits = torch.empty((len(patches), *output_shape), dtype=torch.float32, device=here)
        binding = session.io_binding()
        binding.bind_input("patches", *device, patches.shape, patches.data_ptr())
        binding.bind_output("logits", *device, logits.shape, logits.data_ptr())
        if here.type == "cuda":  # its streams are not torch's
            torch.cuda.current_stream(here).synchronize()
        session.run_with_iobinding(binding)
        return logits

    return run


def _session(request: EngineRequest) -> Any:
    onnxruntime = _import_onnxruntime()
    here = request.device.torch_device
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = ONLY_ERRORS
    options.enable_cpu_mem_arena = False  # it would keep the most that a scan ever took
    choices: dict[str, dict[str, Any]] = {
        "cpu": {},
        # Not the default, which tries every algorithm anew for each number of patches.
        "cuda": {"device_id": here.index or 0, "cudnn_conv_algo_search": "HEURISTIC"},
    }
    providers = [(PROVIDERS[here.type], choices[here.type])]
    kept = kept_path(request, f"{torch.__version__} {version('onnxscript')}", ".onnx")
    graph = recall(kept)
    if graph is not None:
        try:
            return onnxruntime.InferenceSession(graph, options, providers)
        except Exception:  # of many kinds: cut short
            graph = None
    try:
        graph = _exported(request)
        session = onnxruntime.InferenceSession(graph, options, providers)
    except Exception as error:  # of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"ONNX Runtime cannot run this network ({reason}). Use --engine torch."
        ) from error
    keep(kept, graph)
    return session


def _import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry, which would number and report the computer."""
    os.environ[NO_TELEMETRY] = "1"  # it is looked at when the module is imported
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where another program has imported it before
    return onnxruntime


def _exported(request: EngineRequest) -> bytes:
    """The network as ONNX, for any number of patches of one shape."""
    example = torch.zeros(2, *request.patch_shape)
    with _quiet("torch.onnx"):
        program = torch.onnx.export(
            request.network.cpu().eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["patches"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger tell only errors for a while, and no warning be printed."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own exporter about torch
            yield
    finally:
        logger.setLevel(level)
