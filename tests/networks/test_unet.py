import pytest
import torch

from autoseg.networks import NETWORKS
from autoseg.planning.plan import NetworkPlan, StagePlan


def unet_plan(
    features: list[int], strides: list[tuple[int, ...]], kernels: list[tuple[int, ...]]
) -> NetworkPlan:
    stages = tuple(
        StagePlan(
            features=f,
            kernel_size=k,
            stride=s,
            blocks=2,
            decoder_blocks=2 if i < len(features) - 1 else 0,
        )
        for i, (f, s, k) in enumerate(zip(features, strides, kernels, strict=True))
    )
    return NetworkPlan(
        kind="plain_unet",
        stages=stages,
        norm="instance",
        activation="leaky_relu",
        bias=True,
        upsampling="transposed",
        deep_supervision=True,
    )


ANISOTROPIC = unet_plan(
    [4, 8, 16], [(1, 1, 1), (1, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
)


def test_the_published_six_stage_network_has_its_parameters() -> None:
    plan = unet_plan([32, 64, 128, 256, 320, 320], [(1, 1, 1), *[(2, 2, 2)] * 5], [(3, 3, 3)] * 6)
    with torch.device("meta"):
        network = NETWORKS["plain_unet"](plan, 1, 3)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(31.20, abs=0.01)


def test_logits_have_the_patchs_shape_at_every_resolution() -> None:
    network = NETWORKS["plain_unet"](ANISOTROPIC, 2, 5)
    image = torch.randn(1, 2, 8, 16, 16)
    assert network(image).shape == (1, 5, 8, 16, 16)
    # The lowest of the decoder's outputs would weigh nothing, so it is not computed.
    assert [tuple(o.shape) for o in network(image, all_resolutions=True)] == [(1, 5, 8, 16, 16)]


def test_two_dimensions_work_alike() -> None:
    plan = unet_plan([4, 8, 16, 16], [(1, 1), (2, 2), (2, 2), (2, 2)], [(3, 3)] * 4)
    network = NETWORKS["plain_unet"](plan, 1, 2)
    outputs = network(torch.randn(1, 1, 32, 16), all_resolutions=True)
    assert [tuple(o.shape[2:]) for o in outputs] == [(32, 16), (16, 8)]
    assert torch.equal(network(torch.ones(1, 1, 32, 16)), network(torch.ones(1, 1, 32, 16)))
