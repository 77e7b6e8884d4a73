"""What networks cost, by a formula and by what torch really does."""

from math import prod
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from autoseg.networks import FAMILIES
from autoseg.networks.extension import extension_family
from autoseg.networks.family import Family, all_outputs
from autoseg.networks.tracing import trace
from autoseg.planning.cost import NetworkCost
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan, StageMaskInput
from autoseg.planning.network_plan import NetworkKind, StagePlan, UNetPlan
from tests.networks.every_network import PATCHES, SMALL

WIDE, NARROW = 12, 8  # features of the two stages, the lower one first
CHANNELS, OUTPUTS = 3, 5
SHAPES: dict[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    2: ((16, 20), (3, 3), (2, 2)),
    3: ((8, 12, 16), (1, 3, 3), (1, 2, 2)),
}  # by dimensions: patch, kernel of the upper stage, stride


def model_of(kind: str, dims: int, **network: Any) -> ModelPlan:
    """Two stages, a block each; of three channels one is a mask."""
    patch, kernel, stride = SHAPES[dims]
    ones = (1,) * dims
    return ModelPlan(
        patch_size_vox=patch,
        inputs=(
            ScanInput(channels=("a", "b")),
            StageMaskInput(stage="3d_lowres", classes=("organ",)),
        ),
        network=UNetPlan.model_construct(
            kind=kind,
            stages=(
                StagePlan(
                    features=NARROW, kernel_size=kernel, stride=ones, blocks=1, decoder_blocks=1
                ),
                StagePlan(
                    features=WIDE, kernel_size=(3,) * dims, stride=stride, blocks=1,
                    decoder_blocks=0,
                ),
            ),
            norm="instance",
            activation="leaky_relu",
            bias=True,
            upsampling="transposed",
            deep_supervision=False,
            squeeze_excitation=False,
            **network,
        ),
        task=SemanticPlan(classes=OUTPUTS),
    )  # fmt: skip


def traced(kind: str, model: ModelPlan) -> NetworkCost:
    return trace(FAMILIES[kind].build, model)


def by_hand(kind: str, dims: int) -> tuple[int, int]:
    """Multiply-adds and elements: of every convolution the outputs, times what each sums over."""
    patch, kernel, stride = SHAPES[dims]
    upper, lower = prod(patch), prod(patch) // prod(stride)
    small, large = prod(kernel), 3**dims
    convolutions = {  # outputs, summed over
        "plain_unet": [
            (NARROW * upper, CHANNELS * small),
            (WIDE * lower, NARROW * large),
        ],
        "residual_unet": [
            (NARROW * upper, CHANNELS * small),  # the stem
            (NARROW * upper, NARROW * small),
            (NARROW * upper, NARROW * small),
            (WIDE * lower, NARROW * large),
            (WIDE * lower, WIDE * large),
            (WIDE * lower, NARROW),  # the shortcut
        ],
    }[kind] + [
        (NARROW * upper, WIDE),  # transposed, with kernels that do not overlap
        (NARROW * upper, 2 * NARROW * small),
        (OUTPUTS * upper, NARROW),  # the head
    ]
    return sum(n * over for n, over in convolutions), sum(n for n, _ in convolutions)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
def test_work_and_weights_are_those_of_a_count_by_hand(kind: NetworkKind, dims: int) -> None:
    model = model_of(kind, dims)
    cost = traced(kind, model)
    assert (cost.multiply_adds, cost.elements) == by_hand(kind, dims)
    network = FAMILIES[kind].build(model.network, CHANNELS, OUTPUTS)
    assert cost.weights == sum(p.numel() for p in network.parameters())
    assert cost.output_voxels == prod(model.patch_size_vox)


class Pointwise(nn.Module):
    """A network of another package: a convolution, and a layer that mixes features."""

    def __init__(self, plan: UNetPlan, channels: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.mix = nn.Linear(6, outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.first(image).relu()  # [batch, feature, y, x]
        mixed: torch.Tensor = self.mix(features.movedim(1, -1)).movedim(-1, 1)
        return mixed


def test_networks_of_other_packages_are_traced_alike() -> None:
    model = model_of("another", 2)
    voxels = prod(model.patch_size_vox)
    cost = extension_family(Pointwise).cost(model)
    assert cost.multiply_adds == voxels * (6 * CHANNELS * 9 + OUTPUTS * 6)
    assert cost.elements == voxels * (6 + OUTPUTS)
    assert cost.weights == 6 * CHANNELS * 9 + 6 + 6 * OUTPUTS + OUTPUTS


def test_every_resolution_of_deep_supervision_counts() -> None:
    stages = model_of("plain_unet", 2).network.stages
    deeper = (*stages[:1], stages[1].model_copy(update={"decoder_blocks": 1}), stages[1])
    model = model_of("plain_unet", 2)
    single = model.network.model_copy(update={"stages": deeper})
    patch, _, stride = SHAPES[2]
    costs = []
    for supervised in (False, True):
        network = single.model_copy(update={"deep_supervision": supervised})
        costs.append(traced("plain_unet", model.model_copy(update={"network": network})))
    assert [cost.output_voxels for cost in costs] == [prod(patch), prod(patch)]  # the lowest is not
    deepest = (*deeper[:2], deeper[1], stages[1])
    network = single.model_copy(update={"stages": deepest, "deep_supervision": True})
    cost = traced(
        "plain_unet", model.model_copy(update={"network": network, "patch_size_vox": (16, 24)})
    )
    assert cost.output_voxels == 16 * 24 + 16 * 24 // prod(stride)


def really_kept(family: Family, model: ModelPlan) -> int:
    """Bytes that torch keeps of a patch in order to go back, beside weights."""
    network = family.build(model.network, CHANNELS, OUTPUTS)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so none comes again
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        image = torch.randn(1, CHANNELS, *model.patch_size_vox)
        outputs = all_outputs(network, image, model.network)
    assert all(torch.isfinite(leaf).all() for leaf in tree_leaves(outputs))
    return sum(t.untyped_storage().nbytes() for where, t in kept.items() if where not in weights)


@pytest.mark.parametrize("upsampling", ["transposed", "interpolated", "subpixel"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
def test_what_is_kept_is_what_torch_keeps(kind: NetworkKind, dims: int, upsampling: str) -> None:
    model = model_of(kind, dims)
    changes = {"upsampling": upsampling, "squeeze_excitation": dims == 3}
    model = model.model_copy(update={"network": model.network.model_copy(update=changes)})
    kept = traced(kind, model).kept_bytes
    assert 0.8 < kept / really_kept(FAMILIES[kind], model) < 1.25


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", SMALL)
def test_what_every_network_keeps_is_what_torch_keeps(kind: str, dims: int) -> None:
    patch = tuple((1 if dims == 3 and axis == 0 else 4) * n for axis, n in enumerate(PATCHES[dims]))
    update = {"network": SMALL[kind](dims), "patch_size_vox": patch}
    model = model_of(kind, dims).model_copy(update=update)
    kept = traced(kind, model).kept_bytes
    assert 0.8 < kept / really_kept(FAMILIES[kind], model) < 1.25


def test_what_another_packages_network_keeps_is_what_torch_keeps() -> None:
    family, model = extension_family(Pointwise), model_of("another", 2)
    assert 0.8 < family.cost(model).kept_bytes / really_kept(family, model) < 1.25


def test_tracing_takes_no_memory_for_voxels() -> None:
    model = model_of("plain_unet", 3).model_copy(update={"patch_size_vox": (2**12, 2**13, 2**13)})
    small, large = (traced("plain_unet", m) for m in (model_of("plain_unet", 3), model))
    times = 2 ** (12 + 13 + 13) // prod(SHAPES[3][0])
    assert large.multiply_adds // small.multiply_adds == times
    assert large.weights == small.weights


class LooksAtValues(nn.Module):
    """Drop rates by depth, taken from a tensor, as many networks have them."""

    def __init__(self, plan: UNetPlan, channels: int, outputs: int) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.layer = nn.Conv3d(channels, outputs, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(image)
        return logits


def test_a_network_that_looks_at_values_is_traced_in_memory() -> None:
    model = model_of("plain_unet", 3)
    network = model.network.model_copy(update={"deep_supervision": False})
    model = model.model_copy(update={"network": network})
    state = torch.get_rng_state()
    cost = trace(LooksAtValues, model)
    assert torch.equal(torch.get_rng_state(), state)
    channels, outputs = len(model.channel_names), model.task.outputs
    assert cost.weights == channels * outputs + outputs
    assert cost.multiply_adds == prod(model.patch_size_vox) * channels * outputs
