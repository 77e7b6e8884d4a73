"""A training step, and a sliding window, give a GPU work without ever waiting for an answer.

Two stand-ins for a GPU find what would wait: torch's `meta` device, where nothing can be read and
no tensor of the host may be mixed in, and a watch over the operations on a CPU.

Covers: lane.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from autoseg.augmentation.batch import Batch
from autoseg.augmentation.policy import BatchShape, augment_batch, draw_augmentation
from autoseg.augmentation.sample import RawSample
from autoseg.augmentation.spatial import source_box
from autoseg.checkpoint import build_network
from autoseg.dataset.labels import LabelScheme
from autoseg.networks.family import all_outputs
from autoseg.planning.model_plan import DistancePlan, FlowPlan, TaskPlan
from autoseg.planning.plan import Configuration
from autoseg.planning.run_plan import AugmentationPlan, RandomRange
from autoseg.tasks import task_of
from autoseg.training import learner
from autoseg.training.trainer import train_model
from tests.training.blobs import (
    BLOB,
    Recorder,
    changed_configuration,
    changed_training,
    small_configuration,
    training_in,
)

META = torch.device("meta")
IGNORING = BLOB.model_copy(update={"ignore": 2})
aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.bincount.default,
}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations whose result, or whose size of it, the host would have to wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        by_mask = func in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in WAITING or by_mask:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class CountsWaits(Recorder):
    """How much the watch had found at each step."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch
        self.counts: list[int] = []

    def on_step(self, iteration: int, fraction: float, loss: float) -> None:
        self.counts.append(len(self.watch.found))


def always(plan: AugmentationPlan) -> AugmentationPlan:
    """The plan with every transform in every sample, but noise, which has no generator on meta."""
    drawn = {
        name: value.model_copy(update={"probability": 1.0, "channel_probability": 1.0})
        for name, value in plan
        if isinstance(value, RandomRange) and name != "noise_std"
    }
    return plan.model_copy(
        update=drawn | {"noise_std": plan.noise_std.model_copy(update={"probability": 0.0})}
    )


def batch_on_meta(configuration: Configuration) -> Batch:
    augmentation, patch = always(configuration.run.augmentation), configuration.model.patch_box_vox
    samples = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        drawn = draw_augmentation(augmentation, 1, patch, rng)
        if seed == 0:  # one that is not transformed
            drawn = replace(drawn, matrix=None, displacement_vox=None)
        box, centre = source_box((0, 0, 0), patch, drawn)
        shape = tuple(last - first for first, last in zip(box.start, box.stop, strict=True))
        image = rng.normal(size=(1, *shape)).astype(np.float32)
        label = rng.integers(0, 2, shape, dtype=np.uint8)
        numbers = rng.integers(0, 9, shape, dtype=np.int32)
        raw = RawSample("a", image, label, label > 5, {}, centre, drawn, objects=numbers)
        samples.append(raw)
    return augment_batch(samples, BatchShape(patch, (0,), False), META)


@pytest.mark.parametrize("labels", [BLOB, IGNORING], ids=["all annotated", "some ignored"])
@pytest.mark.parametrize("loss", ["ce_dice", "topk_dice", "focal_tversky"])
def test_a_step_runs_where_nothing_can_be_read(labels: LabelScheme, loss: str) -> None:
    configuration = changed_configuration(
        small_configuration(), loss={"kind": loss, "boundary_weight": 1.0, "class_weights": (1, 2)}
    )
    batch = batch_on_meta(configuration)
    network = build_network(configuration.model).to(META)
    task = task_of(configuration, labels)
    outputs = all_outputs(network, batch.image, configuration.model.network)
    task.loss(outputs, task.targets(batch.label)).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True).step()
    assert norm.device == META and len(batch.image) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_no_operation_of_a_step_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(learner, "FUSED_ON", ("cpu",))
    training = training_in(tmp_path, 6)
    run = training.configuration.run
    training = changed_training(
        training,
        augmentation=dict(always(run.augmentation)),
        training={"optimizer": optimizer, "execution": "eager", "ema_decay": 0.9},
    )
    watch = Watch()
    counts = CountsWaits(watch)
    with watch:
        train_model(training, counts, Event(), resume=False)
    assert len(counts.counts) == 6
    assert counts.counts[4] == counts.counts[0], watch.found


def test_the_watch_finds_what_waits() -> None:
    values = torch.arange(4.0)
    watch = Watch()
    with watch:
        values.sum().item()
        values[values > 1]
        values[values > 1] = values.sum()
        torch.unique(values)
        bool(values.max() > 2)
    assert len(watch.found) >= 5


@pytest.mark.parametrize(
    "plan",
    [
        DistancePlan(classes=2, spacing_mm=(1.0, 1.0, 1.0), reach_mm=3),
        FlowPlan(classes=2, spacing_mm=(1.0, 1.0, 1.0), steps=5),
    ],
    ids=["distance", "flow"],
)
def test_objects_are_learned_where_nothing_can_be_read(plan: TaskPlan) -> None:
    configuration = small_configuration()
    model = configuration.model.model_copy(update={"task": plan})
    configuration = configuration.model_copy(update={"model": model})
    batch = batch_on_meta(configuration)
    network = build_network(model).to(META)
    outputs = all_outputs(network, batch.image, model.network)
    task = task_of(configuration, BLOB)
    with Watch() as watch:
        loss = task.loss(outputs, task.targets(batch.label, batch.objects))
    assert loss.device == META and not watch.found
    loss.backward()  # type: ignore[no-untyped-call]
