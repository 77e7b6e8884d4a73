"""TensorRT, of which nothing can run without a GPU but what it is asked, and refuses.

Covers: engines.onnx_engine.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autoseg.checkpoint import load_model
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.inference.engines import EngineRequest, onnx_engine
from autoseg.inference.engines.onnx_engine import make_onnx_runner, make_tensorrt_runner
from autoseg.inference.engines.onnx_graph import missing_packages
from autoseg.inference.predictor import Predictor
from tests.inference.model_files import small_configuration, write_model

CUDA = torch.device("cuda", 0)
needs_onnxruntime = pytest.mark.skipif(
    bool(missing_packages("onnxruntime")), reason="onnxruntime is not installed"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "a.safetensors", small_configuration())


@needs_onnxruntime
def test_what_tensorrt_lacks_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AutosegError, match=r"tensorrt: runs on Nvidia's GPUs only.*--device gpu"):
        Predictor.load([model], "cpu", None, "tensorrt")
    request = on_a_gpu(model)
    with pytest.raises(
        AutosegError, match=r"tensorrt: .*built without it. Install onnxruntime-gpu"
    ):
        make_tensorrt_runner(request)
    with pytest.raises(AutosegError, match="onnxruntime: the one that is installed runs on CPUs"):
        make_onnx_runner(request)
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(
        onnx_engine.import_onnxruntime(), "get_available_providers", lambda: providers
    )
    with pytest.raises(AutosegError, match="tensorrt: computes in fp32 or fp16, not in bf16"):
        make_tensorrt_runner(replace(request, device=Device(CUDA, "bf16")))
    # As ONNX Runtime does where libnvinfer cannot be loaded.
    fallen_back = SimpleNamespace(get_providers=lambda: providers[1:])
    monkeypatch.setattr(onnx_engine, "open_graph", lambda graph, provider: fallen_back)
    with pytest.raises(AutosegError, match=r"tensorrt: it is not installed.*libnvinfer"):
        make_tensorrt_runner(request)


def test_tensorrt_keeps_each_model_in_its_own_folder(model: Path, tmp_path: Path) -> None:
    kept = replace(on_a_gpu(model), cache=tmp_path)
    requests = [kept, replace(kept, key="other"), replace(kept, device=Device(CUDA, "fp16"))]
    options = [onnx_engine.TENSORRT.options(request) for request in requests]
    assert len({own["trt_engine_cache_path"] for own in options}) == 3
    assert [own["trt_fp16_enable"] for own in options] == [False, False, True]
    assert "trt_engine_cache_path" not in onnx_engine.TENSORRT.options(on_a_gpu(model))


def on_a_gpu(model: Path) -> EngineRequest:
    """A request for a GPU, which need not be there."""
    shape = (1, 8, 16, 16)
    return EngineRequest(load_model(model)[1], Device(CUDA, "fp32"), shape, shape, "key", None)
