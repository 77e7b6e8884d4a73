"""DeepLabV3+ and its dilated ResNet beside worked examples.

Covers: deeplab_family, resnet.
"""

import pytest
import torch

from autoseg.networks.deeplab import AtrousPyramid, DeepLabV3Plus
from autoseg.networks.deeplab_family import pyramid_rates, stages_to
from autoseg.networks.resnet import ResNet
from autoseg.planning.network_plan import DeepLabPlan, ResNetDepth
from autoseg.planning.topology import Topology

FIVE = Topology(((1, 1), *[(2, 2)] * 5), ((3, 3),) * 6)
CONVOLUTIONS_M = {18: 11.167, 34: 21.268, 50: 23.455}  # of the published ResNets, without norms


def plan_of(depth: ResNetDepth, output_stride: int, base: int = 64) -> DeepLabPlan:
    return DeepLabPlan(
        depth=depth, stages=stages_to(FIVE, depth, output_stride, base), low_level=1,
        rates=((2, 2), (4, 4), (6, 6)), pyramid_features=16, low_level_features=4,
        separable=False, dropout=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnets_have_as_many_weights_as_published(depth: ResNetDepth) -> None:
    with torch.device("meta"):
        network = ResNet(plan_of(depth, 16), 3)
    found = sum(p.numel() for p in network.parameters() if p.ndim > 1) / 1e6
    assert found == pytest.approx(CONVOLUTIONS_M[depth], abs=0.002)


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [(16, [2, 2, 2, 2, 1], [1, 1, 1, 1, 2]), (8, [2, 2, 2, 1, 1], [1, 1, 1, 2, 4])],
)
def test_strides_beyond_the_output_stride_become_dilation(
    output_stride: int, strides: list[int], dilations: list[int]
) -> None:
    stages = stages_to(FIVE, 18, output_stride, 64)
    assert [stage.stride for stage in stages] == [(s, s) for s in strides]
    assert [stage.dilation for stage in stages] == [(d, d) for d in dilations]


def test_rates_are_alike_in_mm_and_fit_into_the_map() -> None:
    assert pyramid_rates((33, 33), (1.0, 1.0)) == ((6, 6), (12, 12), (18, 18))
    assert pyramid_rates((8, 32, 32), (4.0, 1.0, 1.0)) == ((1, 6, 6), (3, 12, 12), (4, 17, 17))
    assert pyramid_rates((1, 5), (9.0, 1.0)) == ((1, 2), (1, 3), (1, 4))


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_the_whole_maps_branch_works_at_any_size(size: tuple[int, int]) -> None:
    pyramid = AtrousPyramid(plan_of(18, 16, base=4)).train()
    x = torch.randn(2, 32, *size)
    mean = x.flatten(2).mean(2)[..., None, None]
    pooled = pyramid.pooled(x.mean((2, 3), keepdim=True))
    assert pooled.shape == (2, 16, 1, 1)
    torch.testing.assert_close(pooled, pyramid.pooled(mean))


def test_separable_convolutions_have_fewer_weights() -> None:
    plan = plan_of(18, 16, base=8)
    separable = plan.model_copy(update={"separable": True})
    counts = [
        sum(p.numel() for p in DeepLabV3Plus(p_, 1, 2).parameters()) for p_ in (plan, separable)
    ]
    assert counts[1] < counts[0]
