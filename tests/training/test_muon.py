import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.training.learner import make_optimizer
from autoseg.training.muon import LIKE_ADAM, QUINTIC, Muon, is_dense, orthogonal
from tests.training.blobs import CPU, training_with


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (1, 7), (16, 16)])
def test_singular_values_are_those_of_the_published_polynomial(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(matrix)
    for _ in range(5):
        a, b, c = QUINTIC
        values = a * values + b * values**3 + c * values**5
    assert values.min() > 0.6 and values.max() < 1.3
    turned = orthogonal(torch.tensor(matrix, dtype=torch.float32))
    np.testing.assert_allclose(turned, left @ np.diag(values) @ right, atol=1e-5)


def test_directions_that_are_hardly_there_stay_finite() -> None:
    assert orthogonal(torch.zeros(3, 5)).abs().max() == 0
    weak = torch.zeros(3, 5)
    weak[0, 0], weak[1, 1] = 1.0, 1e-6
    turned = orthogonal(weak)
    assert 0.6 < turned[0, 0] < 1.3
    assert 0 < turned[1, 1] < 1e-3


def test_steps_are_those_of_torch_where_both_have_them() -> None:
    """Torch's is of matrices alone, and turns them in bfloat16."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(30, 20, bias=False), nn.Linear(30, 20, bias=False)
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    one = Muon([{"params": [ours.weight], "momentum": 0.9}], **options)
    other = torch.optim.Muon(
        [theirs.weight], momentum=0.9, adjust_lr_fn="match_rms_adamw", **options
    )
    for _ in range(5):
        x = torch.randn(8, 30)
        for layer, optimizer in ((ours, one), (theirs, other)):
            optimizer.zero_grad()
            (layer(x) ** 2).mean().backward()
            optimizer.step()
    moved = (ours.weight - start).detach()
    assert moved.norm() > 10 * (ours.weight - theirs.weight).norm()


def test_weights_decay_apart_from_their_gradients() -> None:
    weights = nn.Parameter(torch.randn(4, 5))
    start = weights.detach().clone()
    optimizer = Muon([{"params": [weights], "momentum": 0.9}], lr=0.01, weight_decay=0.5)
    weights.grad = torch.zeros_like(weights)
    optimizer.step()
    torch.testing.assert_close(weights.detach(), start * (1 - 0.01 * 0.5))


def test_what_was_saved_goes_on_as_it_was() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    other = copy.deepcopy(layer)
    one, two = (
        Muon([{"params": [of.weight], "momentum": 0.9}, {"params": [of.bias]}], lr=0.01)
        for of in (layer, other)
    )

    def learn(network: nn.Linear, optimizer: Muon) -> None:
        network(torch.arange(12.0).reshape(2, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    learn(layer, one)
    other.load_state_dict(layer.state_dict())
    two.load_state_dict(copy.deepcopy(one.state_dict()))  # torch would share tensors
    for network, optimizer in ((layer, one), (other, two)):
        learn(network, optimizer)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_a_step_is_as_large_as_one_of_adam() -> None:
    layer = nn.Conv3d(16, 32, 3, bias=False)
    optimizer = Muon([{"params": [layer.weight], "momentum": 0.95}], lr=0.01, weight_decay=0.0)
    before = layer.weight.detach().clone()
    layer(torch.randn(2, 16, 5, 5, 5)).square().mean().backward()
    optimizer.step()
    size = (layer.weight - before).detach().square().mean().sqrt()
    assert 0.6 * LIKE_ADAM < size / 0.01 < 1.2 * LIKE_ADAM


def test_norms_biases_and_depthwise_weights_follow_adamw() -> None:
    """As they do alone, to the bit."""
    layers = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.InstanceNorm2d(4, affine=True))
    others = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.InstanceNorm2d(4, affine=True))
    others.load_state_dict(layers.state_dict())
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    pairs = (
        (layers, Muon([{"params": [*layers.parameters()]}], **options)),
        (others, torch.optim.AdamW(others.parameters(), **options)),
    )
    for _ in range(3):
        x = torch.randn(2, 4, 6, 6)
        for network, optimizer in pairs:
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for one, other in zip(layers.parameters(), others.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not is_dense(layers[0])


def test_whole_convolutions_and_linear_layers_are_matrices(tmp_path: Path) -> None:
    whole = [nn.Conv3d(1, 4, 3), nn.ConvTranspose3d(4, 2, 2, stride=2), nn.Linear(3, 2)]
    others = [nn.InstanceNorm3d(4, affine=True), nn.Conv2d(4, 8, 3, groups=2), nn.Embedding(2, 3)]
    network = nn.Sequential(*whole, *others)
    training = training_with(tmp_path, 1, optimizer="muon", momentum=0.95)
    optimizer = make_optimizer(network, training.configuration, CPU)
    momenta = {
        parameter: group["momentum"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(momenta) == set(network.parameters())
    matrices = {parameter for parameter, momentum in momenta.items() if momentum == 0.95}
    assert matrices == {layer.weight for layer in whole}
    assert {momenta[parameter] for parameter in set(momenta) - matrices} == {None}
