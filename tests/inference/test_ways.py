"""What is fastest is found by running it, and remembered."""

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.device import Device
from autoseg.errors import EngineError
from autoseg.images.in_memory import volume_of_array
from autoseg.inference import ways
from autoseg.inference.engines import ENGINES, EngineRequest, Runner, torch_engine
from autoseg.inference.engines.openvino_engine import _Compiled
from autoseg.inference.predictor import Predictor
from autoseg.inference.ways import Asked, Choice, Way, best, measured, on_trial, usual_way
from tests.inference.model_files import small_configuration, write_model

CPU = Device(torch.device("cpu"), "fp32")
FREE = Asked(None, None)


def request_for(*patch: int, example: tuple[int, ...] = (8, 8, 8)) -> EngineRequest:
    return EngineRequest(torch.nn.Identity(), CPU, (1, *patch), (1, *example), "key", None)


def takes(seconds: dict[str, float], asked_for: list[str]) -> Any:
    """An engine that takes so long in each precision."""

    def make(request: EngineRequest) -> Runner:
        asked_for.append(request.device.precision)

        def run(patches: torch.Tensor) -> torch.Tensor:
            time.sleep(seconds[request.device.precision])
            return patches

        return run

    return make


@pytest.mark.parametrize(("bf16_s", "chosen"), [(0.001, "bf16"), (0.02, "fp32")])
def test_a_precision_is_chosen_by_its_time_not_by_the_processors_flags(
    monkeypatch: pytest.MonkeyPatch, bf16_s: float, chosen: str
) -> None:
    monkeypatch.setattr("autoseg.device.cpu_has_bf16", lambda: True)
    monkeypatch.setitem(ENGINES, "torch", takes({"fp32": 0.01, "bf16": bf16_s}, []))
    found = measured(Asked("torch", None), request_for(64, 64, 64))
    assert best(found).precision == chosen


def test_what_is_hardly_faster_is_not_worth_it() -> None:
    exact, rounded = (Way(engine="torch", precision=p) for p in ("fp32", "bf16"))
    assert best({exact: 1.0, rounded: 0.96}) == exact
    assert best({exact: 1.0, rounded: 0.94}) == rounded


def test_what_is_hopeless_is_run_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Way] = []
    slow, fast = (Way(engine="torch", precision=p) for p in ("fp32", "bf16"))

    class Made:
        def __init__(self, way: Way) -> None:
            self.way = way

        def seconds(self) -> float:
            runs.append(self.way)
            return 0.003 if self.way == slow else 0.001

    monkeypatch.setattr(ways, "_trial", lambda way, request: Made(way))
    assert ways._seconds([slow, fast], request_for(8, 8, 8)) == {slow: 0.003, fast: 0.001}
    assert (runs.count(slow), runs.count(fast)) == (1, ways.ROUNDS)


def test_an_engine_that_cannot_run_a_network_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: EngineRequest) -> Runner:
        raise EngineError("no such layer")

    monkeypatch.setitem(ENGINES, "openvino", fail)
    monkeypatch.setattr(ways, "is_installed", lambda: True)
    found = measured(Asked(None, "fp32"), request_for(8, 8, 8))
    assert {way.engine for way in found} == {"torch"}
    assert "not run by openvino fp32 here: no such layer" in caplog.text


def test_large_patches_are_tried_smaller_where_the_network_does_the_same() -> None:
    large = replace(request_for(160, 192, 96, example=(32, 32, 16)), cache=Path("kept"))
    small = on_trial(large)
    assert np.prod(small.patch_shape) <= ways.TRIAL_VOXELS["cpu"]
    assert all(size % 32 == 0 for size in small.patch_shape[1:3]) and small.cache is None
    whole = replace(large, example_shape=large.patch_shape)  # one that needs its own size
    assert on_trial(whole) == whole
    little = request_for(16, 16, 16)
    assert on_trial(little) == little


def test_no_more_patches_are_tried_together_than_tell_what_each_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []

    def count(patches: torch.Tensor) -> torch.Tensor:
        given.append(len(patches))
        return patches

    monkeypatch.setitem(ENGINES, "torch", lambda request: count)
    measured(Asked("torch", "fp32"), request_for(32, 32, 32))
    assert set(given) == {4, 1}  # where 32 are run together


def test_without_measuring_a_processors_flags_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "is_installed", lambda: True)
    bf16 = replace(CPU, precision="bf16")
    assert usual_way(FREE, bf16) == Way(engine="openvino", precision="bf16")
    assert usual_way(Asked("onnxruntime", None), bf16).precision == "fp32"
    monkeypatch.setattr(ways, "is_installed", lambda: False)
    assert usual_way(FREE, bf16) == Way(engine="torch", precision="bf16")


def test_a_choice_is_made_once_and_read_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kept"
    models = [write_model(tmp_path / f"{i}", small_configuration(), seed=i) for i in range(2)]
    first = Predictor.load(models[:1], "cpu", cache=folder)
    (path,) = folder.glob("*.way")
    choice = Choice.model_validate(json.loads(path.read_text()))
    assert choice.way == first.way
    assert len(choice.seconds) >= 1 and min(choice.seconds.values()) > 0
    monkeypatch.setattr(ways, "measured", lambda asked, request: pytest.fail("measured again"))
    assert Predictor.load(models[1:], "cpu", cache=folder).way == first.way  # another fold
    path.write_bytes(path.read_bytes()[:20])
    monkeypatch.setattr(ways, "measured", lambda asked, request: {})
    assert Predictor.load(models[:1], "cpu", cache=folder).way == usual_way(FREE, first.device)


def test_prediction_follows_the_threads_that_torch_may_use(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    configuration = small_configuration()
    model = write_model(tmp_path / "m.safetensors", configuration)
    scan = volume_of_array(np.random.default_rng(0).normal(size=(9, 20, 20)), spacing_mm=(2, 1, 1))
    loaded = Predictor.load([model], "cpu", "fp32", "openvino", cache=tmp_path / "kept")
    expected = loaded(scan).labels.array
    request = replace(
        request_for(*configuration.model.patch_size_vox), cache=tmp_path, streams=1,
        network=torch.nn.Conv3d(1, 2, 3),
    )  # fmt: skip
    compiled = _Compiled(request)
    compiled.most = 4 * torch.get_num_threads()  # as if most cores were taken since
    network, beside = compiled.for_free_cores()
    assert (network.get_property("INFERENCE_NUM_THREADS"), beside) == (1, 1)
    np.testing.assert_array_equal(loaded(scan).labels.array, expected)
    compiled.streams = 4
    assert compiled.for_free_cores()[1] == 1


def test_a_recorded_network_answers_each_batch_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording itself needs a GPU; here its replay is a function of the place in memory."""
    recorded: list[int] = []

    def record(run: Runner, patches: torch.Tensor) -> Any:
        recorded.append(len(patches))
        place, logits = patches.clone(), torch.empty_like(patches)
        graph = SimpleNamespace(replay=lambda: logits.copy_(2 * place))
        return SimpleNamespace(graph=graph, patches=place, logits=logits)

    monkeypatch.setattr(torch_engine, "_record", record)
    run = torch_engine.Replayed(lambda patches: 2 * patches)
    for count in (4, 4, 3, 2, 4):
        patches = torch.randn(count, 1, 2, 2, 2)
        torch.testing.assert_close(run(patches), 2 * patches)
    assert recorded == [4, 3]  # as many as are worth their memory


def test_layouts_change_no_logit() -> None:
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    request = replace(request_for(8, 8, 8), network=network)
    patches = torch.randn(2, 1, 8, 8, 8)
    expected = ENGINES["torch"](request)(patches)
    found = ENGINES["torch"](replace(request, execution="channels_last"))(patches)
    torch.testing.assert_close(found, expected)
