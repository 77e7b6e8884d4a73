"""Which model files are one group, how groups decide together, and what they are not to know."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from autoseg.checkpoint import load_model, save_model
from autoseg.errors import AutosegError
from autoseg.geometry import Box, Placement
from autoseg.images.in_memory import volume_of_array
from autoseg.images.volume import Volume
from autoseg.inference import models
from autoseg.inference.members import sources_of
from autoseg.inference.models import Engine, GridScan, ModelGroup, load_groups
from autoseg.inference.predictor import Predictor
from autoseg.inference.restore import Column, crop_of
from autoseg.inference.sliding_window import Batching
from autoseg.inference.ways import Way
from autoseg.networks import family_of, tracing
from autoseg.networks.traced_search import traced_cost_of
from autoseg.planning.cost import NetworkCost
from autoseg.planning.plan import Configuration
from autoseg.preprocessing.placing import place_mask
from tests.inference.model_files import PATCH, second_stage, small_configuration, write_model

EVERYWHERE = Batching(1, torch.device("cpu"))
PACKAGE = Path(__file__).parents[2] / "autoseg"


@pytest.fixture(scope="module")
def scan() -> Volume:
    noise = np.random.default_rng(0).normal(100, 20, (19, 43, 37)).astype(np.float32)
    return volume_of_array(noise, spacing_mm=(1.5, 0.8, 0.8))


def load(*models: Path) -> Predictor:
    return Predictor.load(models, "cpu", "fp32", "torch")


def trained_otherwise(configuration: Configuration) -> Configuration:
    """The same model in a training of its own: another batch, learning rate and loss."""
    run = configuration.run
    other = run.model_copy(
        update={
            "batch_size": run.batch_size + 3,
            "loss": run.loss.model_copy(update={"kind": "focal_tversky", "batch_dice": True}),
            "training": run.training.model_copy(update={"learning_rate": 0.5, "epochs": 7}),
        }
    )
    return configuration.model_copy(update={"run": other})


def predicting(configuration: Configuration, **inference: Any) -> Configuration:
    changed = configuration.inference.model_copy(update=inference)
    return configuration.model_copy(update={"inference": changed})


def surer(path: Path, factor: float) -> Path:
    """The same model with larger logits."""
    card, network = load_model(path)
    for head in network.get_submodule("decoder.heads").parameters():
        head.data *= factor
    save_model(path, network, card)
    return path


def logits_of(group: ModelGroup, scan: GridScan, predictor: Predictor) -> np.ndarray:
    """Logits of one group on the scan's grid."""
    _, height, width = scan.placement.crop.shape
    whole = np.zeros((group.outputs, *scan.placement.source_shape_vox), np.float32)
    columns = [Column((0, height), (0, width))]
    for block in group.blocks(scan, columns, 5, EVERYWHERE, predictor.device):
        crop_of(whole, scan.placement)[:, *block.place] = block.values.numpy()
    return whole


def logits_alone(model: Path, scan: Volume) -> np.ndarray:
    predictor = load(model)
    (group,) = predictor.groups
    return logits_of(group, predictor.prepare(scan, "scan").scans[0], predictor)


def clear(scores: np.ndarray) -> np.ndarray:
    """Where the highest of the scores is so by more than what sums are rounded to."""
    top = np.sort(scores, axis=0)
    gap: np.ndarray = top[-1] - top[-2] > 1e-4
    return gap


def test_trainings_of_one_model_are_averaged_as_logits(tmp_path: Path, scan: Volume) -> None:
    plain = small_configuration()
    a = write_model(tmp_path / "a.safetensors", plain, seed=0, fold=0)
    b = write_model(tmp_path / "b.safetensors", trained_otherwise(plain), seed=1, fold=1)
    surer(b, 5.0)
    predictor = load(a, b)
    (group,) = predictor.groups
    assert len(set(group.hashes)) == 2
    each = [logits_alone(model, scan) for model in (a, b)]
    mean = np.mean(each, axis=0)
    probability = np.mean([softmax(logits, axis=0) for logits in each], axis=0)
    found = predictor(scan).labels.array
    known = clear(mean)
    np.testing.assert_array_equal(found[known], mean.argmax(0)[known])
    otherwise = known & clear(probability) & (mean.argmax(0) != probability.argmax(0))
    assert otherwise.sum() > 100  # so that the two ways to average can be told apart


@pytest.mark.parametrize(
    "other",
    [
        small_configuration(spacing_mm=(2.5, 1.2, 1.2)),
        small_configuration(patch_size_vox=(8, 16, 32)),
        small_configuration(features=6),
    ],
    ids=["grid", "patch", "network"],
)
def test_other_grids_and_models_are_averaged_as_probabilities(
    tmp_path: Path, scan: Volume, other: Configuration
) -> None:
    plain = predicting(small_configuration(), smallest_object_mm=3.0)
    a = write_model(tmp_path / "a.safetensors", plain, seed=0)
    b = surer(write_model(tmp_path / "b.safetensors", other, seed=1, fold=1), 5.0)
    predictor = load(a, b)
    assert [len(group.hashes) for group in predictor.groups] == [1, 1]
    assert predictor.smallest_object_mm == 0
    each = [logits_alone(model, scan) for model in (a, b)]
    mean = np.mean(each, axis=0)
    probability = np.mean([softmax(logits, axis=0) for logits in each], axis=0)
    found = predictor(scan).labels.array
    known = clear(probability)
    np.testing.assert_array_equal(found[known], probability.argmax(0)[known])
    assert (known & clear(mean) & (mean.argmax(0) != probability.argmax(0))).sum() > 100


def test_a_group_is_mirrored_and_stepped_as_all_of_it_may_be(tmp_path: Path, scan: Volume) -> None:
    plain = small_configuration(mirrored=(0, 2))
    finer = predicting(plain, mirror_axes=(2, 1), step_fraction=0.25)
    plain = predicting(plain, smallest_object_mm=3.0)
    a = write_model(tmp_path / "a.safetensors", plain, seed=0)
    b = write_model(tmp_path / "b.safetensors", finer, seed=1, fold=1)
    predictor = load(a, b)
    (group,) = predictor.groups
    assert group.ensemble.mirror_axes == (2,)
    assert group.card.configuration.inference.step_fraction == 0.25
    assert group.card.configuration.inference.smallest_object_mm == 0
    segmentation = predictor(scan)
    assert segmentation.provenance.mirror_axes == (2,)
    shared = predicting(plain, mirror_axes=(2,), step_fraction=0.25)
    alone = [
        write_model(tmp_path / f"{seed}.safetensors", shared, seed=seed, fold=seed)
        for seed in (0, 1)
    ]
    mean = np.mean([logits_alone(model, scan) for model in alone], axis=0)
    found = logits_of(group, predictor.prepare(scan, "scan").scans[0], predictor)
    np.testing.assert_allclose(found, mean, atol=1e-5)


def test_what_a_network_takes_is_traced_once_for_all_scans(
    tmp_path: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []

    def trace(*asked: Any) -> NetworkCost:
        traced.append(asked)
        return original(*asked)

    original = tracing.trace
    features = 5  # as no other test has, of which it may be known already
    model = write_model(tmp_path / "a.safetensors", small_configuration(features=features))
    predictor = load(model)
    monkeypatch.setattr(tracing, "trace", trace)
    family = family_of("plain_unet")
    as_of_others = replace(family, cost=traced_cost_of(family.build))
    monkeypatch.setattr(models, "family_of", {"plain_unet": as_of_others}.__getitem__)
    for _ in range(3):
        predictor(scan)
    assert len(traced) == 1


def named(configuration: Configuration, name: str) -> Configuration:
    return configuration.model_copy(update={"name": name})


def first_stages(folder: Path, *configurations: Configuration) -> list[Path]:
    return [
        write_model(folder / f"low_{fold}.safetensors", configuration, seed=fold, fold=fold)
        for fold, configuration in enumerate(configurations)
    ]


def test_folds_of_other_trainings_are_one_first_stage(tmp_path: Path, scan: Volume) -> None:
    low = named(small_configuration(spacing_mm=(3.0, 1.5, 1.5)), "3d_lowres")
    firsts = first_stages(tmp_path, low, trained_otherwise(low))
    full = second_stage(small_configuration())
    second = write_model(tmp_path / "full.safetensors", full, seed=7)
    predictor = load(second, *firsts)
    (group,) = predictor.groups
    assert group.previous is not None
    assert len(set(group.previous.hashes)) == 2
    found = predictor(scan)
    assert found.provenance.models == (*group.previous.hashes, *group.hashes)
    ready = predictor.prepare(scan, "scan")
    mask = load(*firsts)(scan).labels.array
    assert len(np.unique(mask)) == 3
    placed = replace(
        ready.scans[0],
        maps={"stage_mask": place_mask(mask, ready.scans[0].placement, full.grid)},
    )
    scores = logits_of(group, placed, predictor)
    known = clear(scores)
    np.testing.assert_array_equal(found.labels.array[known], scores.argmax(0)[known])
    empty = {"stage_mask": np.zeros_like(placed.maps["stage_mask"])}
    assert np.abs(logits_of(group, replace(placed, maps=empty), predictor) - scores).max() > 0.01


def test_first_stages_of_other_models_are_refused(tmp_path: Path) -> None:
    low = named(small_configuration(), "3d_lowres")
    other = named(small_configuration(patch_size_vox=(8, 16, 32)), "3d_lowres")
    firsts = first_stages(tmp_path, low, other)
    second = write_model(tmp_path / "full.safetensors", second_stage(small_configuration()))
    engine = Engine(Way(engine="torch", precision="fp32"), load(firsts[0]).device, None)
    with pytest.raises(AutosegError, match="there are different models of 3d_lowres"):
        load_groups(*sources_of([*firsts, second], None), engine)
    with pytest.raises(AutosegError, match="needs a model of 3d_lowres beside it"):
        load_groups(*sources_of([second], None), engine)


def in_place(shape: tuple[int, int, int]) -> Placement:
    """Of a scan that is on the plan's grid as it is."""
    return Placement(
        source_shape_vox=shape,
        flipped_axes=(),
        axis_order=(0, 1, 2),
        crop=Box(start=(0, 0, 0), stop=shape),
        resampled_shape_vox=shape,
        source_spacing_mm=(2, 1, 1),
        target_spacing_mm=(2, 1, 1),
    )


@pytest.mark.parametrize("mirrored", [(), (2,)])
def test_a_stages_mask_reaches_the_network_as_one_hot_channels(
    tmp_path: Path, mirrored: tuple[int, ...]
) -> None:
    low = named(small_configuration(features=3), "3d_lowres")
    firsts = first_stages(tmp_path, low)
    full = second_stage(small_configuration(mirrored=mirrored))
    second = write_model(tmp_path / "full.safetensors", full, classes=4, seed=7)
    firsts = [write_model(firsts[0], low, classes=4)]
    predictor = load(*firsts, second)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, *PATCH)).astype(np.float32)
    mask = rng.integers(0, 4, PATCH).astype(np.uint8)
    placed = GridScan(image, in_place(PATCH), {"stage_mask": mask})
    found = logits_of(predictor.groups[0], placed, predictor)

    one_hot = [(mask == value).astype(np.float32) for value in (1, 2, 3)]
    seen = torch.from_numpy(np.stack([*image, *one_hot])[None])  # [1, 4, z, y, x]
    network = load_model(second)[1]
    with torch.no_grad():
        images = [network(seen)]
        images += [network(seen.flip(2 + axis)).flip(2 + axis) for axis in mirrored]
    expected = torch.stack(images).mean(0)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module or name that is imported, in functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


PARTICULAR = {"autoseg.tasks.losses", "autoseg.tasks.semantic", "autoseg.networks.unet"}
GENERAL = sorted([*(PACKAGE / "inference").rglob("*.py"), *(PACKAGE / "training").glob("*.py")])


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_training_and_prediction_know_no_loss_and_no_network_by_name(path: Path) -> None:
    assert PARTICULAR & set(imported(ast.parse(path.read_text()))) == set()


def test_imports_of_every_form_are_found() -> None:
    for line in ("import {}.{}", "from {} import {}", "from {}.{} import name"):
        tree = ast.parse("def late():\n    " + line.format("autoseg.tasks", "losses"))
        assert "autoseg.tasks.losses" in set(imported(tree))
