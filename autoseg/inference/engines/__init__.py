"""Engines run one network on patches; one table, by name.

Read `request` (what an engine is asked for), the table here, and `torch_engine`; `openvino_engine`
and `onnx_engine` convert the network first, the latter by `onnx_graph`, and keep the result.
"""

from collections.abc import Callable
from typing import Literal

from autoseg.inference.engines.onnx_engine import make_onnx_runner, make_tensorrt_runner
from autoseg.inference.engines.openvino_engine import make_openvino_runner
from autoseg.inference.engines.request import EngineRequest, Runner
from autoseg.inference.engines.torch_engine import make_torch_runner

__all__ = ["ENGINES", "EngineName", "EngineRequest", "Runner"]

EngineName = Literal["torch", "openvino", "onnxruntime", "tensorrt"]

ENGINES: dict[str, Callable[[EngineRequest], Runner]] = {
    "torch": make_torch_runner,
    "openvino": make_openvino_runner,
    "onnxruntime": make_onnx_runner,
    "tensorrt": make_tensorrt_runner,
}
