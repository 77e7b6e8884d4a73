"""Networks as ONNX graphs, which engines run and `export onnx` writes."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

OPSET = 18  # the one that torch's exporter is written for, so that nothing is converted
INPUT, OUTPUT = "patches", "logits"
CONVERTERS = ("onnx", "onnxscript")
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def missing_packages(*others: str) -> tuple[str, ...]:
    """Which of the packages that make graphs, and of some others, are not installed."""
    return tuple(name for name in (*CONVERTERS, *others) if not importlib.util.find_spec(name))


def graph_version() -> str:
    """Stands for all that makes graphs of networks."""
    return f"{torch.__version__} {version('onnxscript')} opset {OPSET}"


def onnx_graph(network: nn.Module, patch_shape: tuple[int, ...]) -> bytes:
    """A network as an ONNX model, for any number of patches [channel, *space] of one shape.

    Raises whatever torch raises where it cannot follow the network.
    """
    example = torch.zeros(2, *patch_shape)
    with _quiet("torch.onnx"):
        program = torch.onnx.export(
            network.cpu().eval(),
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


class HalfPrecision(nn.Module):
    """A copy of a network that takes and gives single precision, and computes in half.

    Norms compute in single precision: sums over a patch would exceed half precision's 65504.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()
        _norms_in_single(self.network)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(patches.half())
        return logits.float()


class _InSingle(nn.Module):
    """Computes in single precision within a network that does not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.float()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(values.float())
        return found.to(values.dtype)


def _norms_in_single(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            module.add_module(name, _InSingle(child))
        else:
            _norms_in_single(child)


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
