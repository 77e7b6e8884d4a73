"""Engines run one network on patches; one table, by name."""

from collections.abc import Callable
from typing import Literal

from autoseg.inference.engines.onnx_engine import make_onnx_runner
from autoseg.inference.engines.openvino_engine import make_openvino_runner
from autoseg.inference.engines.order import Runner, RunOrder
from autoseg.inference.engines.torch_engine import make_torch_runner

__all__ = ["ENGINES", "EngineName", "RunOrder", "Runner"]

EngineName = Literal["torch", "openvino", "onnxruntime"]

ENGINES: dict[EngineName, Callable[[RunOrder], Runner]] = {
    "torch": make_torch_runner,
    "openvino": make_openvino_runner,
    "onnxruntime": make_onnx_runner,
}
