"""Graphs are run by ONNX Runtime itself, and scans segmented from the cards alone.

Covers: onnx_card, onnx_parity, inference.engines.onnx_graph, inference.members,
inference.mirroring.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.checkpoint import (
    ModelCard,
    build_network,
    content_hash,
    load_model,
    read_card,
    save_model,
    save_pack,
)
from autoseg.cli import main
from autoseg.dataset.labels import LabelScheme, Region
from autoseg.errors import AutosegError
from autoseg.images.in_memory import volume_of_array
from autoseg.inference.engines.onnx_engine import open_graph
from autoseg.inference.predictor import Predictor
from autoseg.interop.onnx_card import OnnxCard, PredictionCard
from autoseg.interop.onnx_export import OnnxJob, export_networks
from autoseg.interop.onnx_parity import example_patches
from autoseg.planning.plan import Configuration
from autoseg.postprocessing.recipe import Recipe
from autoseg.preprocessing.placing import prepare_scan
from autoseg.preprocessing.prepare import Target, preparation_hash
from autoseg.preprocessing.store import write_case
from autoseg.records import load_record
from autoseg.work_folder import WorkFolder
from tests.inference.model_files import small_configuration, with_labels, write_model

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

Array = np.ndarray[Any, Any]
REGIONS = LabelScheme(
    values=(0, 2, 5),
    names=("background", "edema", "core"),
    regions=(Region(name="whole", values=(2, 5)), Region(name="core", values=(5,))),
    region_order=(2, 5),
)


def write_regions(path: Path, configuration: Configuration) -> Path:
    """A model of regions, with random weights."""
    torch.manual_seed(0)
    configuration = with_labels(configuration, REGIONS)
    card = ModelCard(
        plan_name="regions",
        configuration=configuration,
        labels=REGIONS,
        channel_names=("MRI",),
        fold=None,
        trained_cases=1,
        trained_iterations=1,
        trained_seconds=1.0,
    )
    save_model(path, build_network(configuration.model), card)
    return path


def mirrored_in_torch(model: Path, patches: Array, axes: tuple[tuple[int, ...], ...]) -> Array:
    """The mean over the named flips, written out."""
    network = load_model(model)[1]
    batch = torch.from_numpy(patches)
    with torch.inference_mode():
        each = [network(batch.flip(some)).flip(some) if some else network(batch) for some in axes]
    mean: Array = torch.stack(each).mean(0).numpy()
    return mean


def run_graph(folder: Path, file: str, patches: Array) -> Array:
    session = open_graph((folder / file).read_bytes(), ("CPUExecutionProvider", {}))
    (logits,) = session.run(["logits"], {"patches": patches})
    found: Array = logits
    return found


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 3D model mirrored along two axes, and the folder that it was exported to."""
    folder = tmp_path_factory.mktemp("volumes")
    model = write_model(folder / "m.safetensors", small_configuration(mirrored=(0, 2)))
    export_networks(OnnxJob((model,), folder / "out"))
    return model, folder / "out"


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 2D model of regions, mirrored along x, and the folder that it was exported to."""
    folder = tmp_path_factory.mktemp("slices")
    configuration = small_configuration((16, 24), (1.0, 1.0), mirrored=(2,))
    model = write_regions(folder / "m.safetensors", configuration)
    export_networks(OnnxJob((model,), folder / "out"))
    return model, folder / "out"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_graphs_of_volumes_give_the_mirrored_mean(
    volumes: tuple[Path, Path], precision: str, bound: float, batch: int
) -> None:
    model, folder = volumes
    patches = np.random.default_rng(1).normal(0, 1, (batch, 1, 8, 16, 16)).astype(np.float32)
    expected = mirrored_in_torch(model, patches, ((), (2,), (4,), (2, 4)))
    found = run_graph(folder, f"small_3d_fullres_fold_0.{precision}.onnx", patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_graphs_of_slices_give_the_mirrored_mean(
    slices: tuple[Path, Path], precision: str, bound: float, batch: int
) -> None:
    model, folder = slices
    patches = np.random.default_rng(1).normal(0, 1, (batch, 1, 16, 24)).astype(np.float32)
    expected = mirrored_in_torch(model, patches, ((), (3,)))
    found = run_graph(folder, f"regions_2d_fold_all.{precision}.onnx", patches)
    np.testing.assert_allclose(found, expected, atol=bound)


def test_cards_are_read_back_and_name_what_was_written(volumes: tuple[Path, Path]) -> None:
    model, folder = volumes
    card = load_record(OnnxCard, folder / "small_3d_fullres_fold_0.json")
    assert card.model_blake2b == content_hash(model.read_bytes())
    assert [file.precision for file in card.files] == ["fp32", "fp16"]
    for file in card.files:
        assert file.blake2b == content_hash((folder / file.file).read_bytes())
    single, half = (file.parity[0] for file in card.files)
    assert single.largest_difference < 1e-4 and single.equal_labels > 0.999
    assert 0 < half.largest_difference < 2e-2 and half.equal_labels > 0.98
    assert half.largest_difference > single.largest_difference
    assert card.input.shape == (None, 1, 8, 16, 16)
    assert card.mirroring.tensor_axes == (2, 4)


def test_half_precision_is_of_convolutions_alone(volumes: tuple[Path, Path]) -> None:
    """Sums over a patch, as norms make them, would exceed half precision's largest number."""
    graphs = [onnx.load(path) for path in sorted(volumes[1].glob("*.onnx"))]  # fp16 first
    half, single = (
        {
            part: {w.data_type for w in graph.graph.initializer if part in w.name}
            for part in ("conv.weight", "norm")
        }
        for graph in graphs
    )
    assert half == {"conv.weight": {onnx.TensorProto.FLOAT16}, "norm": {onnx.TensorProto.FLOAT}}
    assert single == {"conv.weight": {onnx.TensorProto.FLOAT}, "norm": {onnx.TensorProto.FLOAT}}
    assert {graph.opset_import[0].version for graph in graphs} == {18}


def test_mirrors_can_be_left_to_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "m.safetensors", small_configuration(mirrored=(2,)))
    words = ["export", "onnx", str(model), "--out", str(tmp_path / "out"), "--precision", "fp32"]
    assert main([*words, "--no-mirrors", "--work", str(tmp_path)]) == 0
    assert "random patch: logits differ from torch's by at most" in capsys.readouterr().out
    card = load_record(OnnxCard, tmp_path / "out" / "small_3d_fullres_fold_0.json")
    assert not card.mirroring.in_graph
    patches = np.random.default_rng(1).normal(0, 1, (1, 1, 8, 16, 16)).astype(np.float32)
    found = run_graph(tmp_path / "out", card.files[0].file, patches)
    np.testing.assert_allclose(found, mirrored_in_torch(model, patches, ((),)), atol=1e-4)
    assert main(words) == 1
    assert "is there already" in capsys.readouterr().err


def test_a_pack_tells_how_its_networks_predict_together(tmp_path: Path) -> None:
    configuration = small_configuration(mirrored=())
    folds = {
        f"small/fold_{fold}": write_model(
            tmp_path / f"{fold}.safetensors", configuration, seed=fold, fold=fold
        )
        for fold in (0, 1)
    }
    save_pack(tmp_path / "pack.safetensors", folds, Recipe())
    job = OnnxJob((tmp_path / "pack.safetensors",), tmp_path / "out", precisions=("fp32",))
    cards = export_networks(job)
    (group,) = load_record(PredictionCard, tmp_path / "out" / "prediction.json").groups
    assert group.networks == ("small_3d_fullres_fold_0", "small_3d_fullres_fold_1")
    assert group.answer and group.previous is None
    assert [card.model_blake2b for card in cards] == [
        content_hash(path.read_bytes()) for path in folds.values()
    ]


def test_graphs_are_tried_on_a_prepared_case(tmp_path: Path) -> None:
    """Its middle, which here is as deep as the case, and less wide than the patch."""
    model = write_model(tmp_path / "m.safetensors", small_configuration())
    card = read_card(model)
    grid = card.configuration.grid
    noise = np.random.default_rng(0).normal(100, 20, (1, 8, 30, 10)).astype(np.float32)
    scan = volume_of_array(noise, spacing_mm=(2.0, 1.0, 1.0))
    nothing = np.zeros(noise.shape[1:], np.uint8)
    prepared = prepare_scan(scan.array, nothing, scan.grid, grid, "case_7")
    folder = WorkFolder(tmp_path).prepared(preparation_hash(grid, card.labels))
    write_case(Target(grid, folder).path("case_7"), prepared, (), 3)
    patches = example_patches(card, tmp_path)
    assert list(patches) == ["random", "case_7"]
    zscore = (noise - noise.mean()) / noise.std()
    expected = np.pad(zscore[None, :, :, 7:23], ((0, 0), (0, 0), (0, 0), (0, 0), (3, 3)))
    np.testing.assert_allclose(patches["case_7"], expected, atol=2e-3)  # kept in half precision


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutosegError, match="not a readable model file"):
        export_networks(OnnxJob((Path(__file__),), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# What another program does: nothing but the card, its graph, numpy and scipy.


def segment_by_card(folder: Path, name: str, scan: Array, spacing_mm: Array) -> Array:
    """Label values [z, y, x] of a scan [z, y, x] that is stored along the axes of the card."""
    card = json.loads((folder / f"{name}.json").read_text())
    inside = ndimage.binary_fill_holes(scan != 0)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(inside))
    crop = normalized(scan[box], card["grid"]["normalization"][0])
    target_mm = np.array(card["grid"]["target_spacing_mm"])
    if len(target_mm) == 2:
        target_mm = np.array([spacing_mm[0], *target_mm])
    size = tuple(
        round(s * old / new) for s, old, new in zip(crop.shape, spacing_mm, target_mm, strict=True)
    )
    image = np.clip(resampled(crop, size, order=3), crop.min(), crop.max())
    logits = windowed(folder, card, image)
    back = np.stack([resampled(one, crop.shape, order=1) for one in logits])
    values = np.array(card["decoding"]["values"])
    mask = np.full(scan.shape, values[0])
    if card["decoding"]["rule"] == "largest":
        mask[box] = values[back.argmax(0)]
    else:
        for value, one in zip(values[1:], back, strict=True):
            mask[box][one > card["decoding"]["threshold"]] = value
    return mask


def normalized(crop: Array, card: dict[str, Any]) -> Array:
    """Only what these models use; docs/export.md lists all kinds."""
    assert card["kind"] == "zscore" and not card["masked"]
    found: Array = (crop - crop.mean(dtype=np.float64)) / crop.std(dtype=np.float64)
    return found


def resampled(array: Array, shape: tuple[int, ...], order: int) -> Array:
    """Voxel o of an axis lies at (o + 1/2) in / out - 1/2; edges repeat."""
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    found: Array = ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True)
    assert found.shape == shape
    return found


def windowed(folder: Path, card: dict[str, Any], image: Array) -> Array:
    """Weighted means [output, z, y, x] of logits of overlapping patches."""
    window = card["window"]
    patch = window["patch_box_vox"]
    before = [max(0, p - s) // 2 for s, p in zip(image.shape, patch, strict=True)]
    after = [max(0, p - s) - b for s, p, b in zip(image.shape, patch, before, strict=True)]
    padded = np.pad(image, list(zip(before, after, strict=True))).astype(np.float32)
    weight = gaussian(patch, window)
    sums = np.zeros((len(card["output"]["channels"]), *padded.shape))
    total = np.zeros(padded.shape)
    file = next(f["file"] for f in card["files"] if f["precision"] == "fp32")
    session = open_graph((folder / file).read_bytes(), ("CPUExecutionProvider", {}))
    axes = zip(padded.shape, patch, strict=True)
    for start in product(*(starts(size, p, window["step_fraction"]) for size, p in axes)):
        place = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
        part = padded[place] if "z" in card["input"]["axes"] else padded[place][0]
        (logits,) = session.run([card["output"]["name"]], {card["input"]["name"]: part[None, None]})
        sums[:, *place] += logits[0].reshape(-1, *patch) * weight
        total[place] += weight
    means = sums / total
    found: Array = means[:, *(slice(b, b + s) for b, s in zip(before, image.shape, strict=True))]
    return found


def starts(size: int, patch: int, step_fraction: float) -> list[int]:
    last = size - patch
    count = int(np.ceil(last / max(1, patch * step_fraction))) + 1
    return [round(i * last / max(1, count - 1)) for i in range(count)]


def gaussian(patch: list[int], window: dict[str, Any]) -> Array:
    profiles = [
        np.exp(-0.5 * ((np.arange(p) - p // 2) / (p * window["gaussian_sigma_fraction"])) ** 2)
        for p in patch
    ]
    weight = window["gaussian_peak"] * np.einsum("i,j,k->ijk", *profiles)
    rounded = weight.astype(window["gaussian_rounded_to"]).astype(np.float64)
    found: Array = np.maximum(rounded, rounded[rounded > 0].min())
    return found


def scan_with_a_margin(shape: tuple[int, int, int]) -> Array:
    """Noise, which is nowhere 0 but on two sides."""
    scan: Array = np.random.default_rng(3).normal(100, 20, shape).astype(np.float32)
    scan[:2] = 0
    scan[:, :, -3:] = 0
    return scan


@pytest.mark.parametrize("which", ["volumes", pytest.param("slices", marks=pytest.mark.slow)])
def test_the_card_suffices_to_segment_as_predict_does(
    which: str, request: pytest.FixtureRequest
) -> None:
    model, folder = request.getfixturevalue(which)
    scan, spacing_mm = scan_with_a_margin((11, 24, 31)), np.array([1.5, 0.8, 1.25])
    predictor = Predictor.load([model], "cpu", "fp32", "torch")
    volume = volume_of_array(scan, spacing_mm=(1.5, 0.8, 1.25))
    expected = predictor(volume).labels.array
    (card,) = (path for path in folder.glob("*.json") if path.name != "prediction.json")
    found = segment_by_card(folder, card.stem, scan, spacing_mm)
    assert 0.01 < np.mean(expected != expected[0, 0, 0]) < 0.99
    assert np.mean(found != expected) < 1e-3  # near-ties
