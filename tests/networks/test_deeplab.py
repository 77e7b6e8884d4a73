"""DeepLabV3+ and its dilated ResNet beside worked examples.

Covers: deeplab_family, resnet.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.networks import resnet
from autoseg.networks.deeplab import AtrousPyramid, DeepLabV3Plus
from autoseg.networks.deeplab_family import pyramid_rates, stages_to
from autoseg.networks.resnet import ResNet
from autoseg.planning.network_plan import DeepLabPlan, ResNetDepth
from autoseg.planning.topology import FinestStride, Topology
from tests.networks.every_network import deeplab

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
    ("output_stride", "finest_stride", "strides", "dilations"),
    [
        (16, 4, [2, 2, 2, 2, 1], [1, 1, 1, 1, 2]),
        (8, 4, [2, 2, 2, 1, 1], [1, 1, 1, 2, 4]),
        (8, 2, [2, 1, 2, 2, 1], [1, 1, 1, 1, 2]),
    ],
)
def test_strides_beyond_the_output_stride_become_dilation(
    output_stride: int, finest_stride: FinestStride, strides: list[int], dilations: list[int]
) -> None:
    stages = stages_to(FIVE, 18, output_stride, 64, finest_stride)
    assert [stage.stride for stage in stages] == [(s, s) for s in strides]
    assert [stage.dilation for stage in stages] == [(d, d) for d in dilations]


class NoNorm(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("depth", [18, 50])
def test_a_dilated_layer_sees_what_the_strided_one_saw(
    depth: ResNetDepth, output_stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same weights, and no norms, whose moments would be of other voxels."""
    monkeypatch.setattr(resnet, "norm_of", lambda features, dims: NoNorm(features))
    torch.manual_seed(0)
    strided, dilated = (
        ResNet(plan_of(depth, stride, base=4), 1).double() for stride in (32, output_stride)
    )
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 1, 96, 64).double()
    every = 32 // output_stride
    found = dilated(image)[-1][:, :, ::every, ::every]
    torch.testing.assert_close(found, strided(image)[-1])


def test_kernels_are_those_of_the_resolution_that_they_work_at() -> None:
    flat, whole = (1, 3, 3), (3, 3, 3)
    strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    topology = Topology(strides, (flat, flat, whole, whole, whole))
    expected: dict[FinestStride, tuple[int, ...]] = {4: whole, 2: flat}
    for finest_stride, first in expected.items():
        stages = stages_to(topology, 18, 16, 8, finest_stride)
        kernels = [stage.kernel_size for stage in stages]
        assert kernels == [(1, 7, 7), first, whole, whole, whole]


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


def with_holes(kernel: np.ndarray, rate: Sequence[int]) -> np.ndarray:
    """A kernel with zeros between its entries (à trous)."""
    wide = np.zeros([(n - 1) * r + 1 for n, r in zip(kernel.shape, rate, strict=True)])
    wide[tuple(slice(None, None, r) for r in rate)] = kernel
    return wide


def convolved(x: np.ndarray, weight: np.ndarray, rate: Sequence[int]) -> np.ndarray:
    """[feature, *space] by scipy, with zeros around."""
    found = np.zeros((len(weight), *x.shape[1:]))
    for feature, plane in np.ndindex(weight.shape[:2]):
        kernel = with_holes(weight[feature, plane], rate)
        found[feature] += ndimage.correlate(x[plane], kernel, mode="constant")
    return found


def normed(x: np.ndarray, together: bool = False) -> np.ndarray:
    """Each feature, or all, of mean 0 and variance 1, then without what is below 0."""
    axes = tuple(range(0 if together else 1, x.ndim))
    moved = x - x.mean(axes, keepdims=True)
    scaled: np.ndarray = moved / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return scaled.clip(0)


@pytest.mark.parametrize("kind", [2, 3])
def test_the_pyramid_is_the_papers(kind: int) -> None:
    """Figure 2 and section 3.1, step by step in scipy."""
    torch.manual_seed(0)
    plan = deeplab(kind)
    pyramid = AtrousPyramid(plan.model_copy(update={"separable": False})).double().eval()
    size = (9, 11, 10)[-kind:]
    x = np.random.default_rng(0).normal(size=(plan.stages[-1].features, *size))
    ones = (1,) * kind
    rates = [ones, *plan.rates]
    weights = {name: value.numpy() for name, value in pyramid.state_dict().items()}
    seen = [
        normed(convolved(x, weights[f"branches.{index}.0.weight"], rate))
        for index, rate in enumerate(rates)
    ]
    mean = x.mean(tuple(range(1, x.ndim)), keepdims=True)
    whole = normed(convolved(mean, weights["pooled.0.weight"], ones), together=True)
    seen.append(np.broadcast_to(whole, seen[0].shape))
    mixed = convolved(np.concatenate(seen), weights["mix.0.0.weight"], ones)
    found = pyramid(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(found, normed(mixed), atol=1e-8)
