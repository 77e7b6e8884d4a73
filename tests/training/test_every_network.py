"""Trainings of every kind of network, as those of U-Nets.

Covers: learner.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from autoseg.checkpoint import build_network, save_model
from autoseg.device import choose_device
from autoseg.geometry import Grid
from autoseg.images.volume import Volume
from autoseg.inference.engines import EngineName
from autoseg.inference.models import _request
from autoseg.inference.predictor import Predictor
from autoseg.networks.family import all_outputs
from autoseg.planning.model_plan import BoxesPlan, CandidatesPlan, MaskQueriesPlan, ObjectsPlan
from autoseg.planning.network_plan import (
    BoxNetworkPlan,
    OneStagePlan,
    QueryNetworkPlan,
    SoloPlan,
)
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import BoxLossPlan, LossPlan, MatchingPlan
from autoseg.tasks import mask_targets, matching, task_of
from autoseg.training import learner
from autoseg.training.bookkeeping import card_at
from autoseg.training.execution import Trial
from autoseg.training.job import Training
from autoseg.training.learner import make_optimizer
from autoseg.training.trainer import train_model
from tests.networks.every_network import PATCHES, SMALL
from tests.training.blobs import (
    BLOB,
    CPU,
    Recorder,
    changed_configuration,
    changed_training,
    training_in,
)
from tests.training.test_no_waits import META, CountsWaits, Watch

LONG_FOLLOWED = ("mask_queries", "mask_rcnn")  # by torch.export
EVERY = pytest.mark.parametrize("kind", SMALL)


def training_of(kind: str, folder: Path, iterations: int) -> Training:
    begun = training_in(folder, iterations)
    network = SMALL[kind](3)
    model = begun.configuration.model.model_copy(
        update={"network": network, "patch_size_vox": PATCHES[3]}
    )
    configuration = begun.configuration.model_copy(update={"model": model})
    if isinstance(network, QueryNetworkPlan | BoxNetworkPlan):
        configuration = asking(configuration, network)
    if isinstance(network, OneStagePlan):
        task = candidates_of(network, begun.configuration.grid.target_spacing_mm)
        configuration = changed_configuration(configuration, model={"task": task})
    card = begun.card.model_copy(update={"configuration": configuration})
    begun = replace(begun, card=card, planned=configuration)
    return changed_training(begun, training={"optimizer": "adamw", "learning_rate": 1e-3})


def asking(
    configuration: Configuration, network: QueryNetworkPlan | BoxNetworkPlan
) -> Configuration:
    """With the task and the loss that networks of whole objects need."""
    if isinstance(network, BoxNetworkPlan):
        boxes = BoxesPlan(classes=2, things=(1,), objects=6, mask_stride=network.mask_stride)
        lost = LossPlan(kind="found_boxes", batch_dice=False, dice_smooth=1, boxes=BoxLossPlan())
        return changed_configuration(configuration, model={"task": boxes}, run={"loss": lost})
    task = MaskQueriesPlan(classes=2, queries=network.queries, mask_stride=network.mask_stride)
    points = MatchingPlan(points=20)
    loss = LossPlan(kind="matched_masks", batch_dice=False, dice_smooth=1, matching=points)
    return changed_configuration(configuration, model={"task": task}, run={"loss": loss})


def candidates_of(network: OneStagePlan, spacing_mm: tuple[float, ...]) -> CandidatesPlan:
    """The task of a network that finds objects in one stage; of small ones without things."""
    grids = len(network.grids) if isinstance(network, SoloPlan) else 0
    return CandidatesPlan(
        kind="solov2" if grids else "yolact",
        classes=2,
        queries=network.candidates,
        mask_stride=network.mask_stride,
        spacing_mm=spacing_mm,
        sizes_mm=((0.0, 1e6),) * grids,
    )


@EVERY
def test_a_training_that_was_stopped_ends_as_one_that_was_not(kind: str, tmp_path: Path) -> None:
    whole, _ = train_model(training_of(kind, tmp_path / "a", 6), Recorder(), Event(), resume=False)
    stopping = Recorder(stop_at=3)
    part = training_of(kind, tmp_path / "b", 6)
    train_model(part, stopping, stopping.stop, resume=False)
    assert 3 <= len(stopping.losses) < 6
    resumed, position = train_model(part, Recorder(), Event(), resume=True)
    assert position.iteration == 6
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


@EVERY
def test_no_step_waits_for_a_device(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "FUSED_ON", ("cpu",))
    training = changed_training(training_of(kind, tmp_path, 4), training={"execution": "eager"})
    watch = Watch()
    counts = CountsWaits(watch)
    asked = CountsCalls(matching.assigned)
    monkeypatch.setattr(matching, "assigned", asked)
    monkeypatch.setattr(mask_targets, "_used", all_slots)  # which asks a CPU alone
    with watch:
        train_model(training, counts, Event(), resume=False)
    assert counts.counts[3] == counts.counts[0], watch.found
    # Masks are matched by the host: once a step, and for each batch of held-out patches.
    batches = training.run.training.validation_iterations
    assert asked.calls == (4 + batches if kind == "mask_queries" else 0)


def all_slots(voxels: torch.Tensor) -> int:
    return voxels.shape[1]


@EVERY
def test_a_loss_is_the_same_whether_a_device_was_asked_for_the_number_of_masks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = training_of(kind, tmp_path, 1).configuration
    planned = configuration.model.task
    if isinstance(planned, ObjectsPlan):
        counted = planned.model_copy(update={"things": (1,)})
        configuration = changed_configuration(configuration, model={"task": counted})
    torch.manual_seed(0)
    network = build_network(configuration.model)
    task = task_of(configuration, BLOB)
    objects = torch.zeros(2, *PATCHES[3], dtype=torch.int32)
    objects[0, 2:8, 2:8, 2:8], objects[0, 2:8, 8:14, 2:8], objects[1, 4:12, 4:12, 4:12] = 5, 3, 1
    labels = (objects > 0).to(torch.uint8)
    outputs = all_outputs(network, torch.randn(2, 1, *PATCHES[3]), configuration.model.network)
    torch.manual_seed(1)
    found = task.loss(outputs, task.targets(labels, objects))
    monkeypatch.setattr(mask_targets, "_used", all_slots)
    torch.manual_seed(1)
    torch.testing.assert_close(found, task.loss(outputs, task.targets(labels, objects)))


class CountsCalls:
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.function(values)


def unread(costs: torch.Tensor) -> torch.Tensor:
    """Matches the first query with the first mask, whatever it costs."""
    return torch.zeros((len(costs), 3, 1), dtype=torch.int64, device=costs.device)


@EVERY
def test_a_step_runs_where_nothing_can_be_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "assigned", unread)  # the host alone can do it: see above
    configuration: Configuration = training_of(kind, tmp_path, 1).configuration
    network = build_network(configuration.model).to(META)
    image = torch.zeros(2, 1, *PATCHES[3], device=META)
    task = task_of(configuration, BLOB)
    outputs = all_outputs(network, image, configuration.model.network)
    labels = torch.zeros(2, *PATCHES[3], dtype=torch.uint8, device=META)
    task.loss(outputs, task.targets(labels)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@EVERY
def test_how_fast_it_runs_can_be_tried(kind: str, tmp_path: Path) -> None:
    model = training_of(kind, tmp_path, 1).configuration.model
    image = torch.zeros(2, 1, *PATCHES[3])
    assert Trial(build_network(model), model.network, image, CPU).seconds("eager") > 0


@EVERY
def test_the_head_may_learn_at_a_rate_of_its_own(kind: str, tmp_path: Path) -> None:
    training = changed_training(training_of(kind, tmp_path, 1), training={"head_rate": 10.0})
    network = build_network(training.configuration.model)
    optimizer = make_optimizer(network, training.configuration, CPU)
    assert sorted(group["rate_factor"] for group in optimizer.param_groups) == [1.0, 10.0]


@pytest.mark.parametrize(
    "kind",
    [k if k not in LONG_FOLLOWED else pytest.param(k, marks=pytest.mark.slow) for k in SMALL],
)
def test_graphs_take_any_number_of_patches(kind: str, tmp_path: Path) -> None:
    network = build_network(training_of(kind, tmp_path, 1).configuration.model).eval()
    patches = torch.randn(5, 1, *PATCHES[3])
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(network, (patches[:2],), dynamic_shapes=shapes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(patches), network(patches))


@EVERY
def test_networks_of_whole_objects_are_not_to_be_rounded(kind: str, tmp_path: Path) -> None:
    model = training_of(kind, tmp_path, 1).configuration.model
    request = _request(model, build_network(model), "key", choose_device("cpu"), None)
    assert request.places == (kind in ("mask_queries", "mask_rcnn", "solov2", "yolact"))


@EVERY
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_every_engine_predicts_as_torch_does(kind: str, engine: EngineName, tmp_path: Path) -> None:
    torch.manual_seed(0)
    training = training_of(kind, tmp_path, 1)
    network, position = train_model(training, Recorder(), Event(), resume=False)
    path = tmp_path / "model.safetensors"
    save_model(path, network, card_at(training, position))
    image = np.asarray(training.train_cases["case_0"].image)
    scan = Volume(image, Grid((16, 18, 20), np.eye(4)), None)
    engines: tuple[EngineName, ...] = ("torch", engine)
    found = [
        Predictor.load([path], "cpu", "fp32", engine=name)(scan).labels.array for name in engines
    ]
    assert np.mean(found[0] == found[1]) > 0.999
