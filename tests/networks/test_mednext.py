"""MedNeXt beside its published sizes and formulas.

Covers: mednext_family.
"""

import pytest
import torch
from torch.nn import functional

from autoseg.networks.mednext import BlockShape, MedNeXt, MedNeXtBlock, UpBlock, with_larger_kernels
from autoseg.networks.mednext_family import SIZES, stages_of
from autoseg.planning.network_plan import MedNeXtPlan
from autoseg.planning.topology import Topology

FOUR = Topology(((1, 1, 1), *[(2, 2, 2)] * 4), ((3, 3, 3),) * 5)
PAPER_M = {
    ("s", 3): 5.6, ("b", 3): 10.5, ("m", 3): 17.6, ("l", 3): 61.8,
    ("s", 5): 5.9, ("b", 5): 11.0, ("m", 5): 18.3, ("l", 5): 63.0,
}  # fmt: skip


@pytest.mark.parametrize(("size", "edge"), PAPER_M)
def test_weights_are_as_many_as_published(size: str, edge: int) -> None:
    plan = MedNeXtPlan(stages=stages_of(SIZES[size], FOUR, 32, edge), deep_supervision=False)
    with torch.device("meta"):
        network = MedNeXt(plan, 1, 2)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(PAPER_M[size, edge], abs=0.1)


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = MedNeXtBlock(BlockShape(4, 4, (3, 3), (1, 1), 2))
    x = torch.randn(2, 4, 6, 5)
    alone = torch.stack(
        [
            functional.conv2d(
                x[:, i : i + 1], block.depthwise.get_parameter("weight")[i : i + 1], padding=1
            )[:, 0]
            + block.depthwise.get_parameter("bias")[i]
            for i in range(4)
        ],
        dim=1,
    )
    normed = (alone - alone.mean((2, 3), keepdim=True)) / (
        alone.var((2, 3), keepdim=True, unbiased=False) + 1e-5
    ).sqrt()
    wide = torch.einsum(
        "oc,ncyx->noyx", block.mix.widen.get_parameter("weight")[..., 0, 0], normed
    ) + block.mix.widen.get_parameter("bias").view(-1, 1, 1)
    narrow = torch.einsum(
        "oc,ncyx->noyx", block.mix.narrow.get_parameter("weight")[..., 0, 0], functional.gelu(wide)
    ) + block.mix.narrow.get_parameter("bias").view(-1, 1, 1)
    torch.testing.assert_close(block(x), x + narrow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_the_way_up_gives_the_stride_times_as_many_voxels(stride: tuple[int, ...]) -> None:
    up = UpBlock(BlockShape(4, 2, (3, 3, 3), stride, 2))
    found = up(torch.randn(1, 4, 2, 3, 4))
    assert found.shape == (1, 2, 2 * stride[0], 3 * stride[1], 4 * stride[2])


def test_larger_kernels_of_the_same_size_are_the_same() -> None:
    kernel = torch.randn(4, 1, 3, 3, 3)
    found = with_larger_kernels(kernel, kernel.shape)
    assert found is not None
    torch.testing.assert_close(found, kernel)


def test_larger_kernels_are_interpolated_linearly() -> None:
    row = torch.tensor([1.0, 4.0, 7.0])
    kernel = row.repeat(3, 3, 1)[None, None]
    found = with_larger_kernels(kernel, torch.Size((1, 1, 5, 5, 5)))
    assert found is not None
    # Voxels' centres lie at (i + 0.5) * 3 / 5 - 0.5, and edges go on.
    centres = torch.tensor([(i + 0.5) * 3 / 5 - 0.5 for i in range(5)]).clamp(0, 2)
    torch.testing.assert_close(found[0, 0], (1 + 3 * centres).repeat(5, 5, 1))
    assert with_larger_kernels(torch.randn(4, 2, 1, 1), torch.Size((4, 2, 3, 3))) is None
    assert with_larger_kernels(torch.randn(4, 1, 3, 3), torch.Size((4, 1, 3, 3, 3))) is None
