"""SegFormer beside that of transformers, its formulas, published sizes, and slices beside volumes.

benchmarks/networks_parity.py compares each published size.

Covers: segformer_family.
"""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from autoseg.checkpoint import read_tensors
from autoseg.networks.segformer import (
    Block,
    DropPath,
    MixFFN,
    ReducedAttention,
    SegFormer,
)
from autoseg.networks.segformer_family import SIZES, MixTransformer, segformer_of
from autoseg.planning.network_plan import TransformerStage
from autoseg.planning.topology import Topology
from autoseg.training.published import initialize_from_published
from tests.networks.published_segformer import logits_as_published

DATA = Path(__file__).parent / "data"
TINY = MixTransformer((1, 2, 1, 1), (4, 8, 10, 16), 8)
FIVE = Topology(((1, 1), *[(2, 2)] * 5), ((3, 3),) * 6)
PUBLISHED_M = {
    "b0": (3.32, 3.75), "b1": (13.15, 13.72), "b2": (24.20, 27.46), "b3": (44.07, 47.34),
    "b4": (60.84, 64.11), "b5": (81.44, 84.71),
}  # fmt: skip  # encoder and whole with 150 classes, counted in transformers


def stage(dims: int, reduction: int = 2) -> TransformerStage:
    ones = (1,) * (dims - 2)
    return TransformerStage(
        features=8, kernel_size=(3,) * dims, stride=(1,) * dims, blocks=1, decoder_blocks=0,
        heads=2, reduction=(*ones, reduction, reduction),
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_weights_are_as_many_as_published(size: str) -> None:
    with torch.device("meta"):
        network = SegFormer(segformer_of(SIZES[size], FIVE), 3, 150)
    encoder = sum(p.numel() for p in network.encoder.parameters()) / 1e6
    whole = sum(p.numel() for p in network.parameters()) / 1e6
    assert (encoder, whole) == pytest.approx(PUBLISHED_M[size], abs=0.005)


def test_strides_heads_and_reductions_are_the_published_ones() -> None:
    stages = segformer_of(SIZES["b0"], FIVE).stages
    assert [s.stride for s in stages] == [(4, 4), (2, 2), (2, 2), (2, 2)]
    assert [s.kernel_size for s in stages] == [(7, 7), (3, 3), (3, 3), (3, 3)]
    assert [s.reduction for s in stages] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert [s.heads for s in stages] == [1, 2, 5, 8]


def test_the_finest_features_may_be_half_as_fine_as_the_image() -> None:
    stages = segformer_of(SIZES["b0"], FIVE, finest_stride=2).stages
    assert [s.stride for s in stages] == [(2, 2)] * 4
    assert [s.kernel_size for s in stages] == [(3, 3)] * 4
    assert [s.reduction for s in stages] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    flat, whole = (1, 3, 3), (3, 3, 3)
    thick = Topology(((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)), (flat, flat, whole, whole))
    stages = segformer_of(SIZES["b0"], thick, finest_stride=2).stages
    assert [s.stride for s in stages] == [(1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 1, 1)]
    assert [s.kernel_size for s in stages] == [flat, flat, whole, whole]
    thicker = Topology(((1, 1, 1), *[(1, 2, 2)] * 3, (2, 2, 2)), (*[flat] * 3, whole, whole))
    assert [s.kernel_size for s in segformer_of(TINY, thicker).stages] == [
        (1, 7, 7), flat, whole, whole,
    ]  # fmt: skip


def test_attention_is_a_weighted_mean_of_coarser_values() -> None:
    torch.manual_seed(0)
    attention = ReducedAttention(stage(2))
    tokens = torch.randn(1, 16, 8)
    found = attention(tokens, (4, 4))[0]
    # Each 2 x 2 block of tokens, by hand, becomes one key and value.
    kernel, bias = (attention.reduce.get_parameter(n) for n in ("weight", "bias"))  # type: ignore[union-attr]
    grid = tokens[0].reshape(4, 4, 8)
    seen = torch.stack(
        [
            torch.einsum("yxc,ocyx->o", grid[y : y + 2, x : x + 2], kernel) + bias
            for y in (0, 2)
            for x in (0, 2)
        ]
    )
    seen = functional.layer_norm(seen, (8,))
    query, key, value = attention.query(tokens[0]), attention.key(seen), attention.value(seen)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weight = (query[:, head] @ key[:, head].T / math.sqrt(4)).softmax(1)
        heads.append(weight @ value[:, head])
    torch.testing.assert_close(found, attention.out(torch.cat(heads, 1)), atol=1e-5, rtol=1e-4)


def test_it_gives_the_logits_of_transformers() -> None:
    """With weights that transformers made and laid out, by `benchmarks/peer`."""
    theirs, _ = read_tensors(DATA / "segformer.safetensors")
    network = SegFormer(segformer_of(TINY, FIVE), 3, 5).eval()
    found = initialize_from_published(network, "segformer", DATA / "segformer.safetensors")
    ours = {"decoder.norm.weight", "decoder.norm.bias", "decoder.head.weight", "decoder.head.bias"}
    assert set(found.left) == ours and found.adapted == ()
    logits = logits_as_published(network, theirs, theirs["image"])
    torch.testing.assert_close(logits, theirs["logits"], atol=1e-4, rtol=0)
    assert float(theirs["logits"].std()) > 0.1


def as_slice(volume: torch.nn.Module, flat: torch.nn.Module) -> None:
    """Give a network of volumes the weights of one of slices, in the middle of its kernels."""
    own = volume.state_dict()
    for name, weight in flat.state_dict().items():
        if own[name].shape != weight.shape:
            kernel = torch.zeros_like(own[name])
            kernel[:, :, kernel.shape[2] // 2] = weight
            weight = kernel
        own[name] = weight
    volume.load_state_dict(own)


def part_of(part: str, dims: int) -> torch.nn.Module:
    if part == "ffn":
        return MixFFN(stage(dims), 2)
    return ReducedAttention(stage(dims)) if part == "attention" else Block(stage(dims), 4, 0.0)


@pytest.mark.parametrize("part", ["ffn", "attention", "block"])
def test_a_volume_of_one_slice_is_seen_as_the_slice(part: str) -> None:
    torch.manual_seed(0)
    flat, volume = (part_of(part, dims) for dims in (2, 3))
    as_slice(volume, flat)
    tokens = torch.randn(2, 24, 8)
    torch.testing.assert_close(volume(tokens, (1, 4, 6)), flat(tokens, (4, 6)))


def test_a_mix_ffn_looks_across_slices_only_where_the_plan_does() -> None:
    torch.manual_seed(0)
    tokens, size = torch.randn(1, 3 * 4 * 4, 8), (3, 4, 4)
    other = tokens.clone()
    other[:, :16] += 1  # the first slice
    for kernel, alike in (((1, 3, 3), True), ((3, 3, 3), False)):
        ffn = MixFFN(stage(3).model_copy(update={"kernel_size": kernel}), 2)
        assert torch.equal(ffn(tokens, size)[:, 16:32], ffn(other, size)[:, 16:32]) == alike


def test_dropped_paths_keep_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    found = drop(torch.ones(4000, 1, 1))
    assert sorted(found.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(3, 2, 2)), torch.ones(3, 2, 2))


def test_a_network_of_volumes_sees_one_slice_as_that_of_slices() -> None:
    torch.manual_seed(0)
    flat, volume = (whole(dims) for dims in (2, 3))
    as_slice(volume, flat)
    image = torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(volume(image[:, :, None])[:, :, 0], flat(image))


def whole(dims: int) -> SegFormer:
    deep = (1,) * (dims - 2)
    topology = Topology(((1,) * dims, *[(*deep, 2, 2)] * 3), ((*deep, 3, 3), *[(3,) * dims] * 3))
    size = MixTransformer((1, 1, 1, 1), (4, 8, 8, 8), 8)
    return SegFormer(segformer_of(size, topology), 1, 3).eval()
