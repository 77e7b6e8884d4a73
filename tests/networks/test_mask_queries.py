"""Mask2Former beside that of transformers, and volumes beside slices.

The file of transformers is made by benchmarks/peer/transformers_mask2former.py; its loss is
compared in tests/tasks/test_mask_losses.py.

Covers: deformable, mask_queries_family, pixel_decoder.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg.inference.engines.onnx_graph import HalfPrecision
from autoseg.networks.deformable import centres, sampled_at
from autoseg.networks.mask_queries import (
    MaskQueries,
    PackedQueries,
    QueryOutputs,
    class_scores,
    within_masks,
)
from autoseg.networks.mask_queries_family import SIZES, query_network
from autoseg.networks.pixel_decoder import sine_positions
from autoseg.planning.network_plan import QueryNetworkPlan, StagePlan
from autoseg.planning.search import ExpectedObjects
from autoseg.planning.topology import Topology
from tests.networks.every_network import stages
from tests.networks.published_queries import published

FILE = Path(__file__).parent / "data" / "mask2former.npz"


def test_published_weights_give_the_published_maps_masks_and_classes() -> None:
    file = np.load(FILE)
    ours = published(str(file["told"]))
    with torch.no_grad():
        attended, mask_features = ours.pixels(ours.features)
        layers = ours.decoder(attended, mask_features)
    for level, found in enumerate(attended):
        np.testing.assert_allclose(found, file[f"attended.{level}"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(mask_features, file["mask_features"], atol=1e-5, rtol=0)
    for found, masks, classes in zip(layers[::-1], file["masks"], file["classes"], strict=True):
        np.testing.assert_allclose(found.masks, masks, atol=1e-4, rtol=0)
        np.testing.assert_allclose(found.classes, classes, atol=1e-5, rtol=0)


def test_places_are_sampled_as_a_plane_is() -> None:
    z, y, x = torch.meshgrid(*(torch.arange(n).float() for n in (3, 4, 5)), indexing="ij")
    ramp = (100 * z + 10 * y + x)[None, None]
    found = sampled_at(ramp, centres([(3, 4, 5)], ramp.device)[None, :, None])
    torch.testing.assert_close(found.flatten(), ramp.flatten())
    between = sampled_at(ramp, torch.tensor([[[[0.5, 0.5, 0.5]]]]))  # x, y, z
    assert float(between) == pytest.approx(100 + 15 + 2)


def test_graphs_sample_volumes_as_torch_does() -> None:
    maps, places = torch.randn(2, 3, 4, 5, 6), torch.rand(2, 7, 2, 3) * 1.2 - 0.1
    traced = torch.jit.trace(sampled_at, (maps, places))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(maps, places), sampled_at(maps, places))


def test_queries_look_within_their_masks_or_everywhere() -> None:
    masks = torch.full((1, 2, 4, 4), -1.0)
    masks[0, 0, :2, :2] = 1.0
    seen = within_masks(masks, (2, 2))
    assert seen[0, 0].tolist() == [[True, False, False, False], [True] * 4]


def test_scores_are_what_all_queries_give_to_a_class() -> None:
    torch.manual_seed(0)
    found = QueryOutputs(torch.randn(1, 3, 5), torch.randn(1, 3, 2, 2))
    probability = found.classes.softmax(-1)[0]
    expected = sum(probability[q, 1] * found.masks[0, q, 1, 0].sigmoid() for q in range(3))
    assert float(class_scores(found)[0, 1, 1, 0].exp()) == pytest.approx(float(expected), rel=1e-5)


def small(dims: int, variant: str, cells: tuple[int, ...] = ()) -> QueryNetworkPlan:
    deep = (1,) * (dims - 2)
    strides = ((1,) * dims, *[(*deep, 2, 2)] * 3)
    topology = Topology(strides, ((*deep, 3, 3),) * 4)
    size = SIZES[variant]
    return query_network(size, stages(topology), queries=5, mask_stride=2, cells=cells)


@pytest.mark.parametrize("variant", ["mask2former_small", "maskformer_small"])
@pytest.mark.parametrize(("in_slices", "in_volumes"), [((), ()), ((2, 3), (1, 2, 3))])
def test_a_volume_of_one_slice_is_seen_as_the_slice(
    variant: str, in_slices: tuple[int, ...], in_volumes: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    flat = MaskQueries(small(2, variant, in_slices), 1, 3).eval()
    volume = MaskQueries(small(3, variant, in_volumes), 1, 3).eval()
    as_slice(volume, flat)
    image = torch.randn(2, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(volume(image[:, :, None])[:, :, 0], flat(image))


def as_slice(volume: MaskQueries, flat: MaskQueries) -> None:
    """Give a network of volumes the weights of one of slices; its points stay in their slice."""
    own = volume.state_dict()
    for name, weight in flat.state_dict().items():
        if ".attention.offsets." in name:
            spread = torch.zeros_like(own[name]).view(-1, 3, *weight.shape[1:])
            spread[:, :2] = weight.view(-1, 2, *weight.shape[1:])
            weight = spread.flatten(0, 1)
        own[name] = weight.view(own[name].shape)
    volume.load_state_dict(own)


def test_queries_tell_what_lies_in_their_own_cells() -> None:
    torch.manual_seed(0)
    network = MaskQueries(small(2, "maskformer_small", (4, 6)), 1, 3).eval()
    image = torch.randn(1, 1, 64, 96)
    changed = image.clone()
    changed[..., 48:, :16] += 3  # the lowest cell on the left: 18
    with torch.no_grad():
        before, after = (network.found(x)[-1].classes[0] for x in (image, changed))
    assert (before - after).abs().sum(1).argmax() == 18


def test_queries_that_begin_in_cells_find_masks_around_them() -> None:
    torch.manual_seed(0)
    network = MaskQueries(small(2, "mask2former_small", (4, 6)), 1, 3).eval()
    network.decoder.steepness.bias.data.fill_(50.0)
    masks = network.found(torch.randn(1, 1, 64, 96))[0].masks[0]  # [query, y, x]
    peaks = masks.flatten(1).argmax(1)
    own = peaks // 48 // 8 * 6 + peaks % 48 // 8  # the cell of 8 x 8 voxels of masks
    assert own.tolist() == list(range(24))


@pytest.mark.parametrize("variant", ["mask2former_small", "maskformer_small"])
@pytest.mark.parametrize("cells", [(), (2, 3)])
def test_half_precision_gives_nearly_the_same(variant: str, cells: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = MaskQueries(small(2, variant, cells), 1, 3).eval()
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(HalfPrecision(network)(image), network(image), atol=0.02, rtol=0)


def test_openvino_finds_in_cells_of_volumes_what_torch_does() -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = PackedQueries(MaskQueries(small(3, "mask2former_small", (2, 3, 3)), 1, 3).eval())
    image = torch.randn(1, 1, 8, 32, 48)
    with torch.no_grad():
        expected = network(image)
    model = openvino.convert_model(network, example_input=image)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image.numpy())[0], expected, atol=1e-4)


def test_slices_of_a_volume_have_positions_of_their_own() -> None:
    here = torch.device("cpu")
    flat, deep = (sine_positions(size, 16, here) for size in ((4, 6), (3, 4, 6)))
    torch.testing.assert_close(sine_positions((1, 4, 6), 16, here)[:, 0], flat)
    shift = deep - flat[:, None]
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift))
    assert not torch.allclose(shift[:, 0], shift[:, 1])


def stage(stride: tuple[int, int]) -> StagePlan:
    return StagePlan(features=4, kernel_size=(3, 3), stride=stride, blocks=1, decoder_blocks=0)


@pytest.mark.parametrize(
    ("strides", "wanted", "level", "stride"),
    [
        ([1, 2, 2, 2, 2, 2], 4, 2, (4, 4)),
        ([1, 2, 2, 2, 2, 2], 2, 1, (2, 2)),
        ([1, 2, 2, 2], 4, 1, (2, 2)),  # what queries look at is no finer
        ([1, 2], 4, 0, (1, 1)),
    ],
)
def test_masks_are_as_coarse_as_was_asked_unless_there_are_few_stages(
    strides: list[int], wanted: int, level: int, stride: tuple[int, int]
) -> None:
    plan = query_network(SIZES["mask2former"], tuple(stage((s, s)) for s in strides), 100, wanted)
    assert (plan.mask_level, plan.mask_stride) == (level, stride)


def test_queries_look_at_nothing_coarser_than_eight_times_their_masks() -> None:
    strides = tuple(stage((s, s)) for s in (1, 2, 2, 2, 2, 2, 2))
    for wanted, lowest in ((2, 16), (4, 32)):
        assert (
            2 ** (len(query_network(SIZES["mask2former"], strides, 9, wanted).stages) - 1) == lowest
        )


def test_a_patch_may_lie_where_objects_are_dense() -> None:
    objects = ExpectedObjects(in_scan=200, in_box=30, box_mm=(128, 128, 128))
    assert objects.in_patch((64, 64)) == 30
    assert objects.in_patch((256, 256)) == 120
    assert objects.in_patch((512, 512)) == 200
