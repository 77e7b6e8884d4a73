"""The parts of Mask R-CNN, and the whole in two dimensions beside three.

Covers: mask_rcnn_family, feature_pyramid, region_proposals, region_heads, point_rend, detections.
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autoseg.networks import family_of
from autoseg.networks.detections import SURE, Detected, as_queries, detected
from autoseg.networks.mask_queries import class_scores
from autoseg.networks.mask_rcnn import MaskRCNN
from autoseg.networks.mask_rcnn_family import RegionSize, region_network
from autoseg.networks.point_rend import PointHead, SeenRegions, logits_at, refined, unsure_places
from autoseg.networks.region_heads import Regions
from autoseg.networks.region_proposals import Proposals, anchors_at, likeliest
from autoseg.planning.box_network_plan import AnchorLevel
from autoseg.planning.network_plan import BoxNetworkPlan, StagePlan

SIZE = RegionSize(8, 3, 8, 4, 1, 2, 6, 8)
WIDE = ((8.0, 6.0), (5.0, 9.0))


def plan_of(dims: int) -> BoxNetworkPlan:
    """In three dimensions a single slice is deep, and nothing looks across it."""
    one = (1,) * (dims - 2)
    strides = ((1, 1), (2, 2), (2, 2))
    stages = tuple(
        StagePlan(
            features=4, kernel_size=(*one, 3, 3), stride=(*one, *s), blocks=1, decoder_blocks=0
        )
        for s in strides
    )
    sizes = tuple((1.0,) * (dims - 2) + size for size in WIDE)
    anchors = tuple(AnchorLevel(stage=stage, sizes_vox=sizes) for stage in (1, 2))
    plan = region_network(SIZE, stages, anchors, 5)
    bins = {"box_bins": (*one, 3, 3), "mask_bins": (*one, 4, 4)}
    more = {"steps": 2, "dense_classes": (0, 2), "mask_stride": (*one, 2, 2)}
    return plan.model_copy(update=bins | more)


def deepened(flat: dict[str, torch.Tensor], deep: MaskRCNN) -> dict[str, torch.Tensor]:
    """The weights of a network of pictures in one of volumes, which moves no box across slices."""
    found = {}
    for name, own in deep.state_dict().items():
        weight = flat[name]
        if name.partition(".")[2].endswith(("deltas.weight", "deltas.bias")):
            pairs = weight.view(-1, 2, 2, *weight.shape[1:])
            across = torch.zeros_like(pairs[:, :, :1])
            weight = torch.cat((across, pairs), dim=2).flatten(0, 2)
        found[name] = weight.view(own.shape)
    return found


def test_steps_of_a_training_do_without_what_only_scores_need() -> None:
    torch.manual_seed(0)
    plan = plan_of(2).model_copy(update={"detections": 80, "proposals": 160, "considered": 160})
    network, image = MaskRCNN(plan, 1, 3), torch.randn(1, 1, 16, 16)
    (learned,) = network.train()(image, all_resolutions=True)
    (scored,) = network.eval()(image, all_resolutions=True)
    assert not learned.found and len(scored.found) == 1
    assert learned.masks.shape[1] == 20  # a quarter, the surest
    torch.testing.assert_close(learned.boxes, scored.boxes)
    torch.testing.assert_close(learned.masks, scored.masks)
    assert scored.found[0].masks.shape[1] == 80 + 2  # beside those of dense classes


def test_a_volume_of_one_slice_is_seen_as_a_picture_is() -> None:
    torch.manual_seed(0)
    flat, deep = MaskRCNN(plan_of(2), 1, 3).eval(), MaskRCNN(plan_of(3), 1, 3).eval()
    for parameter in flat.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    deep.load_state_dict(deepened(flat.state_dict(), deep))
    image = torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        expected, found = flat.found(image)[0], deep.found(image[:, :, None])[0]
        torch.testing.assert_close(found.classes, expected.classes, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.masks[:, :, 0], expected.masks, atol=1e-3, rtol=1e-3)
        scores = flat(image)
    assert scores.shape == (2, 3, 16, 24) and scores.std() > 0


def test_anchors_lie_about_the_middles_of_voxels_size_after_size() -> None:
    found = anchors_at(((4, 2), (6, 6)), (2, 4), (2, 3), torch.device("cpu"))
    assert found.shape == (6, 2, 4)
    found = found.flatten(0, 1)
    assert found[0].tolist() == [-1, 1, 3, 3]  # about (1, 2)
    assert found[1].tolist() == [-2, -1, 4, 5]
    assert found[10].tolist() == [1, 9, 5, 11]  # about (3, 10), the last


def test_likely_boxes_come_first_and_those_that_overlap_them_last() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 5], [6, 6, 9, 9], [-4, 2, 2, 30]]])
    logits = torch.tensor([[2.0, 1, 0, -1]])
    proposals = Proposals([boxes[0]], logits, boxes)
    plan = plan_of(2).model_copy(update={"proposals": 4})
    found = likeliest(proposals, plan, (10, 10))[0].tolist()
    assert found == [[0, 0, 4, 4], [6, 6, 9, 9], [0, 2, 2, 10], [0, 0, 4, 5]]


def regions(boxes: torch.Tensor, probability: list[list[float]]) -> Regions:
    return Regions(boxes, torch.tensor([probability]).log(), boxes)


def test_a_box_that_is_a_surer_one_again_is_no_object() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 5, 4], [6, 6, 9, 9]]])
    # Background, two classes, no object: the second is of the first's class, the third is not.
    steps = [
        regions(boxes, [[0.01, 0.9, 0.04, 0.05], [0.01, 0.7, 0.04, 0.25],
                        [0.01, 0.04, 0.8, 0.15], [0.01, 0.04, 0.05, 0.9]]),
    ]  # fmt: skip
    plan = plan_of(2).model_copy(update={"detections": 4})
    found = detected(steps, boxes, plan)
    assert found.boxes[0].tolist() == [boxes[0][i].tolist() for i in (0, 2, 3, 1)]
    assert found.classes[0, :, -1].eq(SURE).tolist() == [False, False, False, True]
    torch.testing.assert_close(found.classes[0, 0], steps[0].classes[0, 0])
    twice = detected([steps[0], regions(boxes, [[0.01, 0.5, 0.24, 0.25]] * 4)], boxes, plan)
    assert twice.classes[0, 0].exp()[1] == pytest.approx(0.7)  # the mean of both steps


@pytest.mark.parametrize("panoptic", [False, True])
def test_every_voxel_has_the_class_of_its_detection_or_what_else_is_there(panoptic: bool) -> None:
    plan = plan_of(2).model_copy(update={"mask_stride": (1, 1)})
    certain = [-SURE, SURE, -SURE, -SURE]
    found = Detected(torch.tensor([[[2.0, 2, 6, 7]]]), torch.tensor([[certain]]))
    dense = torch.zeros(1, 3, 10, 10)
    dense[:, 0], dense[:, 2, 5:] = 3, 9  # background, but below are voxels of the second class
    told = as_queries(
        found, torch.full((1, 1, 4, 4), 8.0), dense if panoptic else None, plan, (10, 10)
    )
    # No query is of all cells: it would be taken for one.
    assert told.classes.argmax(-1).tolist() == [[1, 0, 2] if panoptic else [1, 0]]
    expected = torch.zeros(10, 10, dtype=torch.int64)
    if panoptic:
        expected[5:] = 2
    expected[2:6, 2:7] = 1
    decided = class_scores(told).argmax(1)[0]
    disputed = expected.eq(1) & (torch.arange(10)[:, None] >= 5) if panoptic else decided < 0
    assert torch.equal(decided[~disputed], expected[~disputed])


def test_points_are_those_of_the_region_and_the_least_sure() -> None:
    torch.manual_seed(1)
    masks = torch.linspace(-4, 4, 8).expand(1, 1, 8, 8).contiguous()  # unsure in the middle
    places = unsure_places(masks, 40)
    assert places.shape == (1, 40, 2)
    along_x = (places[0, :30, 0] - 0.5).abs()
    assert along_x.mean() < 0.15 < (places[0, 30:, 0] - 0.5).abs().mean()
    seen = SeenRegions(torch.zeros(1, 1, 5, 5), torch.tensor([[[2.0, 4, 6, 12]]]), masks, (20, 40))
    half = torch.full((1, 1, 2), 0.5)
    assert seen.in_patch(half)[0, 0, 0].tolist() == pytest.approx([8 / 40, 4 / 20])
    y, x = places[0, :, 1] * 8 - 0.5, places[0, :, 0] * 8 - 0.5
    inside = ((x > 0) & (x < 7) & (y > 0) & (y < 7)).numpy()
    expected = map_coordinates(masks[0, 0].numpy(), [y.numpy(), x.numpy()], order=1)
    np.testing.assert_allclose(logits_at(masks, places)[0][inside], expected[inside], atol=1e-5)


def test_only_voxels_that_are_least_sure_are_looked_at_again() -> None:
    masks = torch.linspace(-4, 4, 8).expand(1, 2, 8, 8).contiguous()
    boxes = torch.tensor([[[2.0, 4, 6, 12], [0, 0, 9, 9]]])
    seen = SeenRegions(torch.randn(1, 3, 5, 5), boxes, masks, (20, 40))
    head = PointHead(3, 4)
    torch.nn.init.zeros_(head.layers[-1].weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(head.layers[-1].bias, 77.0)  # type: ignore[arg-type]
    finer = refined(head, seen, 32)
    again = finer == 77
    assert finer.shape == (1, 2, 16, 16) and again.sum((2, 3)).tolist() == [[32, 32]]
    assert again[0, 0].any(0).nonzero().flatten().tolist() == [7, 8]  # those about 0


def test_parts_are_told_apart_by_name() -> None:
    family, plan = family_of("mask_rcnn"), plan_of(2)
    names = [name for name, _ in MaskRCNN(plan, 1, 3).named_parameters()]
    levels = {name: family.levels_from_output(plan, name) for name in names}
    assert {levels[n] for n in names if n.startswith("encoder.2.")} == {1}
    assert {levels[n] for n in names if n.startswith("stem.")} == {3}
    assert family.gives_outputs is not None
    given = [name for name in names if family.gives_outputs(plan, name)]
    assert [name.removesuffix(".weight") for name in given if name.endswith("weight")] == [
        "boxes.0.classes", "boxes.1.classes", "dense.classes",
    ]  # fmt: skip
