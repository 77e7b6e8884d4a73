"""Covers: engines.openvino_engine, engines.request, engines.torch_engine, probabilities,
provenance, whole_scan.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax

from autoseg import extensions
from autoseg.checkpoint import load_model, save_model
from autoseg.device import Device, choose_device
from autoseg.errors import AutosegError
from autoseg.images.in_memory import volume_of_array
from autoseg.images.volume import Volume
from autoseg.inference import models, ways
from autoseg.inference.engines import EngineName
from autoseg.inference.engines.request import EngineRequest
from autoseg.inference.maps import RequestedMaps
from autoseg.inference.predictor import Predictor
from autoseg.inference.restore import Column, crop_of
from autoseg.inference.sliding_window import Batching
from autoseg.planning.model_plan import DistancePlan
from autoseg.planning.plan import Configuration
from autoseg.tasks.voxel_answer import VoxelAnswer
from tests.inference.model_files import small_configuration, write_model

EVERYWHERE = Batching(1, torch.device("cpu"))
needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
needs_onnxruntime = pytest.mark.skipif(
    not find_spec("onnxruntime"), reason="onnxruntime is not installed"
)
COMPILING: list[Any] = [
    pytest.param("openvino", marks=needs_openvino),
    pytest.param("onnxruntime", marks=needs_onnxruntime),
]


@pytest.fixture(scope="module")
def scan() -> Volume:
    noise = np.random.default_rng(0).normal(100, 20, (19, 43, 37)).astype(np.float32)
    return volume_of_array(noise, spacing_mm=(1.5, 0.8, 0.8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder / "a.safetensors", small_configuration())


def with_network(**options: Any) -> Configuration:
    """The small configuration with another network."""
    plain = small_configuration()
    network = plain.model.network.model_copy(update=options)
    model = plain.model.model_copy(update={"network": network})
    return plain.model_copy(update={"model": model})


def load(*models: Path, memory_gib: float | None = None) -> Predictor:
    return Predictor.load(models, "cpu", "fp32", "torch", memory_gib)


def test_provenance_names_a_gpu_as_the_command_line_does(model: Path, scan: Volume) -> None:
    predictor = load(model)
    elsewhere = replace(predictor, device=Device(torch.device("cuda", 1), "fp32"))
    assert elsewhere._provenance(predictor.prepare(scan, "scan"), []).device == "gpu:1"


def probability_of(predictor: Predictor, scan: Volume, group: int) -> np.ndarray:
    """Softmax of one group's logits on the scan's grid, by scipy."""
    placed = predictor.prepare(scan, "scan").scans[group]
    _, height, width = placed.placement.crop.shape
    column = Column((0, height), (0, width))
    chosen = predictor.groups[group]
    whole = np.zeros((3, *placed.placement.source_shape_vox), np.float32)
    for block in chosen.blocks(placed, [column], 5, EVERYWHERE, predictor.device):
        crop_of(whole, placed.placement)[:, *block.place] = block.values[:3].numpy()
    found: np.ndarray = softmax(whole.astype(np.float64), axis=0)
    return found


def test_a_limit_of_memory_changes_no_voxel(model: Path, scan: Volume) -> None:
    free, limited = load(model)(scan), load(model, memory_gib=1e-3)(scan)
    assert len(np.unique(free.labels.array)) == 3
    np.testing.assert_array_equal(free.labels.array, limited.labels.array)
    assert free.provenance.warnings == ()
    assert "memory is too small" in limited.provenance.warnings[0]


def test_where_memory_runs_out_less_is_done_at_once(
    model: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ways.VOXELS_AT_ONCE, "cpu", 10 * 8 * 16 * 16)
    predictor = load(model)
    expected = predictor(scan).labels.array
    sizes = []

    def run(patches: torch.Tensor) -> torch.Tensor:
        sizes.append(len(patches))
        if len(patches) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
        return runner(patches)

    (group,) = predictor.groups
    (runner,) = group.ensemble.runners
    small = replace(group, ensemble=replace(group.ensemble, runners=(run,)))
    found = replace(predictor, groups=(small,))(scan)
    np.testing.assert_array_equal(found.labels.array, expected)
    assert sizes[0] == 10
    assert "memory did not suffice" in found.provenance.warnings[0]


def test_several_threads_may_share_a_predictor(model: Path, scan: Volume) -> None:
    predictor = load(model)
    alone = predictor(scan).labels.array
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predictor, [scan] * 4):
            np.testing.assert_array_equal(found.labels.array, alone)


def test_configurations_are_averaged_as_probabilities(
    tmp_path: Path, model: Path, scan: Volume
) -> None:
    slices = small_configuration((16, 32), (0.9, 0.9))
    other = write_model(tmp_path / "b.safetensors", slices, seed=1)
    predictor = load(model, other)
    assert len(predictor.groups) == 2
    mean = (probability_of(predictor, scan, 0) + probability_of(predictor, scan, 1)) / 2
    found = predictor(scan, requested=RequestedMaps(probability_file=tmp_path / "scan.npz"))
    clear = np.diff(np.sort(mean, axis=0)[-2:], axis=0)[0] > 1e-5
    np.testing.assert_array_equal(found.labels.array[clear], mean.argmax(0)[clear])
    written = np.load(tmp_path / "scan.npz")["probabilities"]
    assert written.dtype == np.float16
    np.testing.assert_allclose(written, mean, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.safetensors", "scan.npz"]


def test_uncertainty_is_entropy_and_the_share_that_disagrees(
    tmp_path: Path, model: Path, scan: Volume
) -> None:
    other = write_model(tmp_path / "b.safetensors", small_configuration(), seed=1, fold=1)
    predictor = load(model, other)
    assert len(predictor.groups) == 1
    found = predictor(scan, requested=RequestedMaps(uncertainty=True))
    np.testing.assert_array_equal(found.labels.array, predictor(scan).labels.array)
    assert found.entropy is not None and found.disagreement is not None
    expected = stats.entropy(probability_of(predictor, scan, 0), axis=0)
    np.testing.assert_allclose(found.entropy.array, expected, atol=1e-4)
    share = found.disagreement.array
    assert share.min() >= 0 and share.max() <= 1
    differ = load(model)(scan).labels.array != load(other)(scan).labels.array
    assert share[differ].mean() > share[~differ].mean() + 0.1
    told = found.provenance.disagreement or {}
    means = {f"class_{i}": share[found.labels.array == i].mean() for i in (1, 2)}
    assert told == pytest.approx(means, abs=1e-3)
    assert load(model)(scan, requested=RequestedMaps(uncertainty=True)).disagreement is None


def test_a_file_of_probabilities_is_whole_or_absent(
    tmp_path: Path, model: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VoxelAnswer, "probabilities", fails)
    with pytest.raises(KeyboardInterrupt):
        load(model)(scan, requested=RequestedMaps(probability_file=tmp_path / "scan.npz"))
    assert list(tmp_path.iterdir()) == []


def test_models_of_one_name_and_other_settings_all_count(tmp_path: Path, model: Path) -> None:
    other = small_configuration(spacing_mm=(2.5, 1.2, 1.2))  # planned anew under the same name
    assert len(load(model, write_model(tmp_path / "b.safetensors", other)).groups) == 2


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path, model: Path) -> None:
    other = write_model(tmp_path / "b.safetensors", small_configuration(), classes=4)
    with pytest.raises(AutosegError, match=r"b.safetensors is of other labels or channels"):
        load(model, other)
    parting = write_model(tmp_path / "c.safetensors", small_configuration(), seed=1)
    card, network = load_model(parting)
    task = DistancePlan(classes=3, spacing_mm=(2.0, 1.0, 1.0), reach_mm=4)
    plan = card.configuration.model.model_copy(update={"task": task})
    configuration = card.configuration.model_copy(update={"model": plan})
    save_model(parting, network, card.model_copy(update={"configuration": configuration}))
    with pytest.raises(AutosegError, match=r"c.safetensors answers otherwise \(distance\)"):
        load(model, parting)


def test_a_scan_unlike_the_training_set_warns(model: Path, scan: Volume) -> None:
    far = volume_of_array(np.full((9, 20, 20), 7.0), spacing_mm=(9.0, 0.8, 0.8))
    spacing, value = load(model)(far).provenance.warnings
    assert "spacing 9 x 0.8 x 0.8 mm is more than 2 times off" in spacing
    assert "holds nothing but the value 7" in value


@pytest.mark.parametrize("engine", COMPILING)
@pytest.mark.parametrize("patch", [(8, 16, 16), (16, 32)])
def test_engines_agree(
    tmp_path: Path, scan: Volume, patch: tuple[int, ...], engine: EngineName
) -> None:
    spacing = (2.0, 1.0, 1.0)[-len(patch) :]
    model = write_model(tmp_path / "m.safetensors", small_configuration(patch, spacing))
    expected = load(model)(scan)
    for _ in range(2):  # compiled, then from the cache
        predictor = Predictor.load([model], "cpu", "fp32", engine, cache=tmp_path / "cache")
        found = predictor(scan)
        assert found.provenance.engine == engine
        assert np.mean(found.labels.array != expected.labels.array) < 1e-3
        assert len([path for path in (tmp_path / "cache").iterdir() if path.is_file()]) == 1


@pytest.mark.parametrize(
    "engine",
    [COMPILING[0], pytest.param("onnxruntime", marks=[needs_onnxruntime, pytest.mark.slow])],
)
@pytest.mark.parametrize(
    "options",
    [
        {"upsampling": "interpolated"},
        {"upsampling": "subpixel"},
        {"squeeze_excitation": True},
        {"kind": "residual_unet"},
    ],
)
def test_engines_agree_on_every_network(
    tmp_path: Path, scan: Volume, options: dict[str, Any], engine: EngineName
) -> None:
    model = write_model(tmp_path / "m.safetensors", with_network(**options))
    found = Predictor.load([model], "cpu", "fp32", engine)(scan)
    assert np.mean(found.labels.array != load(model)(scan).labels.array) < 1e-3


def test_a_network_that_gives_no_numbers_makes_no_mask(tmp_path: Path, scan: Volume) -> None:
    model = write_model(tmp_path / "m.safetensors", small_configuration())
    card, network = load_model(model)
    next(network.parameters()).data.fill_(float("nan"))
    save_model(model, network, card)
    with pytest.raises(AutosegError, match=r"not finite.*--precision fp32"):
        load(model)(scan)


@needs_openvino
def test_what_was_compiled_of_other_code_is_not_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in ("old", "new"):
        monkeypatch.setattr(models, "_network_code", lambda code=code: code)
        Predictor.load([model], "cpu", "fp32", "openvino", cache=tmp_path)
    assert len(list(tmp_path.glob("*.openvino"))) == 2


def test_a_model_is_named_once(tmp_path: Path, model: Path) -> None:
    copied = Path(shutil.copy(model, tmp_path / "copied.safetensors"))
    with pytest.raises(AutosegError, match="the same model"):
        load(model, copied)
    with pytest.raises(AutosegError, match="no model file is named"):
        load()


class Whimsical(torch.nn.Module):
    """Does what OpenVINO knows no translation for."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        wave: torch.Tensor = torch.special.bessel_j0(image)
        return wave * self.scale.view(-1, 1, 1, 1)


@needs_openvino
@needs_onnxruntime
def test_a_network_that_openvino_cannot_run_is_run_by_torch(
    tmp_path: Path,
    scan: Volume,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    point = EntryPoint("whimsical", "tests", "autoseg.networks")
    monkeypatch.setattr(
        EntryPoint, "load", lambda self: lambda plan, channels, outputs: Whimsical()
    )
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    model = write_model(
        tmp_path / "m.safetensors", with_network(kind="whimsical", deep_supervision=False)
    )
    assert Predictor.load([model], "cpu", "fp32")(scan).provenance.engine == "torch"
    assert "Networks are run by torch: OpenVINO cannot run this network" in caplog.text
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(AutosegError, match=r"cannot run this network .* Use --engine torch"):
            Predictor.load([model], "cpu", "fp32", engine)


@pytest.mark.parametrize("engine", COMPILING)
def test_threads_do_not_overwrite_each_others_logits(
    tmp_path: Path, scan: Volume, engine: EngineName
) -> None:
    configuration = small_configuration(mirrored=())  # so that no logits are copied
    model = write_model(tmp_path / "m.safetensors", configuration)
    predictor = Predictor.load([model], "cpu", "fp32", engine)
    others = [replace(scan, array=np.roll(scan.array, shift, axis=2)) for shift in range(4)]
    alone = [predictor(other).labels.array for other in others]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone * 3, pool.map(predictor, others * 3), strict=True):
            np.testing.assert_array_equal(found.labels.array, expected)


@pytest.mark.parametrize(
    "engine",
    [COMPILING[0], pytest.param("onnxruntime", marks=[needs_onnxruntime, pytest.mark.slow])],
)
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, model: Path, scan: Volume, engine: EngineName
) -> None:
    cache = tmp_path / "cache"
    first = Predictor.load([model], "cpu", "fp32", engine, cache=cache)(scan)
    (kept,) = (path for path in cache.iterdir() if path.is_file())
    kept.write_bytes(kept.read_bytes()[:1000])
    again = Predictor.load([model], "cpu", "fp32", engine, cache=cache)(scan)
    np.testing.assert_array_equal(first.labels.array, again.labels.array)
    assert kept.stat().st_size > 1000


WATCHED = """
import sys
from pathlib import Path

def watch(event, arguments):
    if event.startswith("socket."):
        print("SOCKET", event, arguments)

sys.addaudithook(watch)
from autoseg.images.in_memory import volume_of_array
from autoseg.inference.predictor import Predictor
import numpy as np
predictor = Predictor.load([Path(sys.argv[1])], "cpu", "fp32", sys.argv[2])
scan = volume_of_array(np.random.rand(9, 20, 20), spacing_mm=(2, 1, 1))
print("labels", predictor(scan).labels.array.shape)
"""


@pytest.mark.parametrize(
    "engine",
    [COMPILING[0], pytest.param("onnxruntime", marks=[needs_onnxruntime, pytest.mark.slow])],
)
def test_engines_write_no_file_and_open_no_connection(
    tmp_path: Path, model: Path, engine: EngineName
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(model), engine],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "labels (9, 20, 20)"
    assert list(home.rglob("*")) == []


@needs_onnxruntime
def test_an_engine_that_cannot_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoseg.inference.engines import openvino_engine

    with pytest.raises(AutosegError, match="computes in fp32, not in bf16"):
        Predictor.load([model], "cpu", "bf16", "onnxruntime")
    with pytest.raises(AutosegError, match="fp16: is for GPUs"):
        Predictor.load([model], "cpu", "fp16")
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: False)
    with pytest.raises(AutosegError, match=r"pip install 'autoseg\[openvino\]'"):
        Predictor.load([model], "cpu", "fp32", "openvino")


@pytest.mark.parametrize(("places", "hint"), [(False, "bf16"), (True, "f32")])
def test_openvino_does_not_round_places(places: bool, hint: str) -> None:
    from autoseg.inference.engines import openvino_engine

    device, shape = choose_device("cpu", "bf16"), (1, 8, 8, 8)
    request = EngineRequest(torch.nn.Identity(), device, shape, shape, "", None, places=places)
    assert openvino_engine._settings(request, 1)["INFERENCE_PRECISION_HINT"] == hint
