"""Covers: blocks, extension, family, unet_family."""

from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import get_args

import numpy as np
import pytest
import torch

from autoseg import extensions
from autoseg.errors import AutosegError
from autoseg.networks import FAMILIES, family_of
from autoseg.networks.blocks import (
    ConvShape,
    ResidualBlock,
    ShuffleToSpace,
    SqueezeExcitation,
    initialize,
)
from autoseg.networks.extension import extension_family
from autoseg.networks.unet import PlainUNet
from autoseg.planning.network_plan import (
    BUILT_IN_NETWORKS,
    NetworkKind,
    StagePlan,
    UNetPlan,
    Upsampling,
)

KINDS: tuple[NetworkKind, ...] = ("plain_unet", "residual_unet")


@dataclass(frozen=True)
class Shape:
    """What a test says of a network; `blocks` of each encoder stage, `decoder_blocks` of all."""

    features: list[int]
    strides: list[tuple[int, ...]]
    kernels: list[tuple[int, ...]]
    blocks: list[int]
    decoder_blocks: int = 2

    def plan(self, kind: NetworkKind) -> UNetPlan:
        stages = tuple(
            StagePlan(
                features=features,
                kernel_size=self.kernels[i],
                stride=self.strides[i],
                blocks=self.blocks[i],
                decoder_blocks=self.decoder_blocks if i < len(self.features) - 1 else 0,
            )
            for i, features in enumerate(self.features)
        )
        return UNetPlan(
            kind=kind,
            stages=stages,
            norm="instance",
            activation="leaky_relu",
            bias=True,
            upsampling="transposed",
            deep_supervision=True,
        )


SIX_STAGES = Shape(
    features=[32, 64, 128, 256, 320, 320],
    strides=[(1, 1, 1), *[(2, 2, 2)] * 5],
    kernels=[(3, 3, 3)] * 6,
    blocks=[2] * 6,
)
SIX_RESIDUAL_STAGES = replace(SIX_STAGES, blocks=[1, 3, 4, 6, 6, 6], decoder_blocks=1)
ANISOTROPIC = Shape(
    features=[4, 8, 16],
    strides=[(1, 1, 1), (1, 2, 2), (2, 2, 2)],
    kernels=[(1, 3, 3), (3, 3, 3), (3, 3, 3)],
    blocks=[1, 2, 2],
)
SLICES = Shape(
    features=[4, 8, 16, 16],
    strides=[(1, 1), (2, 2), (2, 2), (2, 2)],
    kernels=[(3, 3)] * 4,
    blocks=[1, 2, 2, 2],
)


def test_the_table_has_every_kind() -> None:
    assert set(FAMILIES) == set(get_args(NetworkKind)) == set(BUILT_IN_NETWORKS)


@pytest.mark.parametrize(
    ("kind", "shape", "millions"),
    [("plain_unet", SIX_STAGES, 31.20), ("residual_unet", SIX_RESIDUAL_STAGES, 102.35)],
)
def test_the_published_six_stage_network_has_its_parameters(
    kind: NetworkKind, shape: Shape, millions: float
) -> None:
    with torch.device("meta"):
        network = FAMILIES[kind].build(shape.plan(kind), 1, 3)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_have_the_patchs_shape_at_every_resolution(kind: NetworkKind) -> None:
    network = FAMILIES[kind].build(ANISOTROPIC.plan(kind), 2, 5)
    image = torch.randn(1, 2, 8, 16, 16)
    assert network(image).shape == (1, 5, 8, 16, 16)
    # The lowest of the decoder's outputs would weigh nothing, so it is not computed.
    assert [tuple(o.shape) for o in network(image, all_resolutions=True)] == [(1, 5, 8, 16, 16)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_dimensions_work_alike(kind: NetworkKind) -> None:
    network = FAMILIES[kind].build(SLICES.plan(kind), 1, 2)
    outputs = network(torch.randn(1, 1, 32, 16), all_resolutions=True)
    assert [tuple(o.shape[2:]) for o in outputs] == [(32, 16), (16, 8)]
    assert torch.equal(network(torch.ones(1, 1, 32, 16)), network(torch.ones(1, 1, 32, 16)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: NetworkKind) -> None:
    network = FAMILIES[kind].build(SLICES.plan(kind), 1, 2)
    outputs = network(torch.randn(1, 1, 32, 16), all_resolutions=True)
    torch.autograd.backward([output.square().mean() for output in outputs])
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {"decoder.heads.2.weight", "decoder.heads.2.bias"}


def test_a_residual_block_begins_as_its_skip() -> None:
    block = ResidualBlock(ConvShape(3, 3, (3, 3), (1, 2), bias=True)).apply(initialize)
    image = torch.randn(2, 3, 8, 8)
    pooled = (image[..., ::2] + image[..., 1::2]) / 2
    torch.testing.assert_close(block(image), torch.where(pooled > 0, pooled, 0.01 * pooled))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize("shape", [ANISOTROPIC, SLICES])
def test_every_way_up_restores_the_patchs_shape(
    kind: NetworkKind, upsampling: Upsampling, shape: Shape
) -> None:
    plan = shape.plan(kind).model_copy(
        update={"upsampling": upsampling, "squeeze_excitation": True}
    )
    patch = (8, 16, 16) if shape is ANISOTROPIC else (32, 16)
    network = FAMILIES[kind].build(plan, 1, 2)
    assert network(torch.randn(2, 1, *patch)).shape == (2, 2, *patch)


def test_features_become_voxels_as_in_torchs_pixel_shuffle() -> None:
    features = torch.randn(2, 12, 3, 5)
    expected = torch.nn.functional.pixel_shuffle(features, 2)
    assert torch.equal(ShuffleToSpace((2, 2))(features), expected)


def test_squeeze_and_excitation_weighs_features_by_their_means() -> None:
    block = SqueezeExcitation(32)
    x = torch.randn(2, 32, 3, 4, 5)
    hidden = torch.relu(block.squeeze(x.mean((2, 3, 4))))
    weight = torch.sigmoid(block.excite(hidden))
    torch.testing.assert_close(block(x), torch.einsum("bczyx,bc->bczyx", x, weight))


def test_a_network_of_another_package_is_found_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("plain_again", "autoseg.networks.unet:PlainUNet", "autoseg.networks")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    family_of.cache_clear()
    assert family_of("plain_again").build is PlainUNet
    with pytest.raises(AutosegError, match=r"'swin' is neither built in.*\(plain_again\)"):
        family_of("swin")
    family_of.cache_clear()


def test_a_package_may_bring_a_whole_family() -> None:
    assert extension_family(FAMILIES["plain_unet"]) is FAMILIES["plain_unet"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [ANISOTROPIC, SLICES])
def test_patches_are_multiples_of_all_strides_together(kind: NetworkKind, shape: Shape) -> None:
    divisor = FAMILIES[kind].patch_divisor(shape.plan(kind))
    assert divisor == tuple(np.prod(shape.strides, axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_as_many_resolutions_from_the_output_as_lie_between(kind: NetworkKind) -> None:
    plan = SLICES.plan(kind)
    network = FAMILIES[kind].build(plan, 1, 2)
    levels = {n: FAMILIES[kind].levels_from_output(plan, n) for n, _ in network.named_parameters()}
    assert {levels[n] for n in levels if n.startswith("decoder.stages.1.")} == {1}
    assert {levels[n] for n in levels if n.startswith("encoder.3.")} == {3}
    assert {levels[n] for n in levels if n.startswith(("encoder.0.", "stem."))} == {6}
    assert None not in levels.values()
    assert FAMILIES[kind].levels_from_output(plan, "backbone.weight") is None
