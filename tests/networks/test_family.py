"""A second family of networks beside the U-Nets, from a training to a mask."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.checkpoint import load_model, save_model
from autoseg.geometry import Grid
from autoseg.images.volume import Volume
from autoseg.inference.predictor import Predictor
from autoseg.networks import FAMILIES, family_of
from autoseg.networks.family import Family
from autoseg.networks.traced_search import traced_cost_of
from autoseg.planning import network_plan
from autoseg.planning.network_plan import UNetPlan, unet_plan
from autoseg.training.bookkeeping import card_at
from autoseg.training.initialization import initialize_from
from autoseg.training.learner import make_optimizer
from autoseg.training.trainer import train_model
from tests.training.blobs import CPU, Recorder, changed_training, training_in


class Fully(nn.Module):
    """Convolutions alone, as wide as the plan's first stage."""

    def __init__(self, plan: UNetPlan, channels: int, outputs: int) -> None:
        super().__init__()
        width = plan.stages[0].features
        self.body = nn.Conv3d(channels, width, 3, padding=1)
        self.last = nn.Conv3d(width, outputs, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.body(image).relu())
        return logits


FULLY = Family(
    build=Fully,
    search=FAMILIES["plain_unet"].search,
    patch_divisor=lambda plan: (1, 1, 1),
    cost=traced_cost_of(Fully),
    levels_from_output=lambda plan, name: 0 if name.startswith("last.") else 1,
    sees_inputs=lambda plan, name: name == "body.weight",
    gives_outputs=lambda plan, name: name.startswith("last."),
    same_at_any_size=True,
    built_in=False,
)


@pytest.fixture
def fully(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(FAMILIES, "fully_convolutional", FULLY)
    kinds = (*network_plan.BUILT_IN_NETWORKS, "fully_convolutional")
    monkeypatch.setattr(network_plan, "BUILT_IN_NETWORKS", kinds)
    family_of.cache_clear()
    yield "fully_convolutional"
    family_of.cache_clear()


def test_another_family_trains_is_saved_and_predicts(tmp_path: Path, fully: str) -> None:
    recorder = Recorder()
    training = changed_training(
        training_in(tmp_path, 2),
        network={"kind": fully, "deep_supervision": False},
        training={"layer_decay": 0.5},
    )
    network, position = train_model(training, recorder, Event(), resume=False)
    assert isinstance(network, Fully)
    assert len(recorder.losses) == position.iteration == 2
    optimizer = make_optimizer(network, training.configuration, CPU)
    assert sorted(group["rate_factor"] for group in optimizer.param_groups) == [0.5, 1.0]

    path = tmp_path / "model.safetensors"
    save_model(path, network, card_at(training, position))
    card, loaded = load_model(path)
    assert card.configuration == training.configuration
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    assert (
        initialize_from(Fully(unet_plan(card.configuration.model.network), 1, 2), card, path).left
        == ()
    )


def test_another_family_predicts_what_its_weights_say(tmp_path: Path, fully: str) -> None:
    training = changed_training(
        training_in(tmp_path, 1), network={"kind": fully, "deep_supervision": False}
    )
    network = Fully(unet_plan(training.configuration.model.network), 1, 2)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():  # class 1 where the normalised intensity is above a tenth
        network.body.weight[0, 0, 1, 1, 1] = network.last.weight[1, 0, 0, 0, 0] = 1
        network.last.bias[0] = 0.1  # type: ignore[index]
    path = tmp_path / "model.safetensors"
    save_model(path, network, training.card)
    image = np.asarray(training.train_cases["case_0"].image)
    predictor = Predictor.load([path], "cpu", "fp32", engine="torch")
    found = predictor(Volume(image, Grid((16, 18, 20), np.eye(4)), None)).labels.array
    normalized = (image[0] - image[0].mean()) / image[0].std()
    clear = np.abs(normalized - 0.1) > 1e-4
    np.testing.assert_array_equal(found[clear], (normalized > 0.1)[clear])
    assert 0.2 < found.mean() < 0.8
