"""Fully convolutional networks beside worked examples.

Covers: fcn_family.
"""

import pytest
import torch
from torch.nn import functional

from autoseg.networks.fcn import FCN
from autoseg.networks.fcn_family import skips_of
from autoseg.networks.unet import encode
from autoseg.planning.topology import Topology
from tests.networks.every_network import PATCHES, fcn, stages


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
def test_skips_change_nothing_before_they_have_learned(dims: int, block: str) -> None:
    torch.manual_seed(0)
    plan = fcn(dims).model_copy(update={"block": block})
    with_skips = FCN(plan, 1, 3).eval()
    alone = FCN(plan.model_copy(update={"skips": 0}), 1, 3).eval()
    alone.load_state_dict(with_skips.state_dict(), strict=False)
    patch, half = PATCHES[dims], (4, 8, 12)[-dims:]
    image, mode = torch.randn(1, 1, *patch), {2: "bilinear", 3: "trilinear"}[dims]
    with torch.no_grad():
        seen = encode(alone.encoder, alone.stem(image))
        coarse = alone.heads[0](seen[-1])
        once = functional.interpolate(coarse, patch, mode=mode)
        torch.testing.assert_close(alone(image), once)
        steps = functional.interpolate(coarse, half, mode=mode)
        steps = functional.interpolate(steps, patch, mode=mode)
        torch.testing.assert_close(with_skips(image), steps)


def test_scores_of_all_stages_are_summed() -> None:
    network = FCN(fcn(2), 1, 2).eval()
    for index, head in enumerate(network.heads):
        torch.nn.init.zeros_(head.get_parameter("weight"))
        torch.nn.init.constant_(head.get_parameter("bias"), 10.0**index)
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 16, 24))
    torch.testing.assert_close(logits, torch.full((1, 2, 16, 24), 111.0))


@pytest.mark.parametrize(
    ("size", "depth", "finest"),
    [("8s", 7, 8), ("8s", 4, 2), ("2s", 7, 2), ("16s", 4, 4), ("32s", 7, 32), ("32s", 4, 8)],
)
def test_scores_are_as_fine_as_the_size_says_or_finer(size: str, depth: int, finest: int) -> None:
    strides = [(1, 1, 1), (1, 2, 2), *((2, 2, 2),) * (depth - 2)]
    deep = stages(Topology(tuple(strides), ((3, 3, 3),) * depth))
    assert 2 ** (depth - 1 - skips_of(size, deep)) == finest
