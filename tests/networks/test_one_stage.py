"""Covers: candidates, one_stage_body, one_stage_family, solov2, yolact."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from autoseg.device import choose_device
from autoseg.inference.engines import ENGINES, EngineName, EngineRequest
from autoseg.networks import family_of
from autoseg.networks.candidate_suppression import mask_overlaps, matrix_decay
from autoseg.networks.candidates import Candidates, filled, packed_candidates
from autoseg.networks.mask_queries import PackedQueries
from autoseg.networks.one_stage_body import features_of_places, with_places
from autoseg.networks.one_stage_family import Pyramid, boxes_of
from autoseg.networks.solov2 import LOOKED_AT, SoloOutputs, leading, surest_masks
from autoseg.networks.yolact import (
    YolactOutputs,
    changed,
    changes_to,
    surest_boxes,
    within,
)
from autoseg.planning.network_plan import SoloPlan, YolactPlan
from tests.networks.every_network import PATCHES, SMALL, stages, topology_of

ONE_STAGE = pytest.mark.parametrize("kind", ["solov2", "yolact"])


def deepened(shape: tuple[int, ...], weight: torch.Tensor) -> torch.Tensor:
    """A 2D kernel as the middle slice of a 3D one; all else as it is."""
    if weight.shape == shape:
        return weight
    deep = torch.zeros(shape)
    deep[:, :, shape[2] // 2] = weight
    return deep


@ONE_STAGE
def test_a_volume_of_one_slice_is_found_as_the_slice_is(kind: str) -> None:
    torch.manual_seed(0)
    plan = SMALL[kind](2)
    flat = family_of(kind).build(plan, 1, 3).eval()
    stages = tuple(
        s.model_copy(update={"kernel_size": (1, *s.kernel_size), "stride": (1, *s.stride)})
        for s in plan.stages
    )
    changes: dict[str, object] = {"stages": stages}
    if isinstance(plan, SoloPlan):
        changes["grids"] = tuple((1, *grid) for grid in plan.grids)
        changes["waves"] = (0, *plan.waves)
    if isinstance(plan, YolactPlan):
        changes["anchors"] = tuple(tuple((1.0, *a) for a in level) for level in plan.anchors)
    deep = family_of(kind).build(plan.model_copy(update=changes), 1, 3).eval()
    own = flat.state_dict()
    shapes = {name: tuple(value.shape) for name, value in deep.state_dict().items()}
    fitted = {}
    for name, shape in shapes.items():
        weight = own[name]
        if "kernel_tower.0.0" in name or "mask_tower.0.0" in name:  # one more place, along z
            assert isinstance(plan, SoloPlan)
            width = shape[1] - features_of_places((0, *plan.waves))
            none = torch.zeros((len(weight), 1, *weight.shape[2:]))
            weight = torch.cat((weight[:, :width], none, weight[:, width:]), dim=1)
        if name.startswith("changes."):  # a further axis, along which boxes stay
            moved, stretched = weight.chunk(2)
            none = torch.zeros_like(weight[:1])
            weight = torch.cat((none, moved, none, stretched))
        fitted[name] = deepened(shape, weight) if weight.ndim != len(shape) else weight
    deep.load_state_dict(fitted)
    image = torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(deep(image[:, :, None])[:, :, 0], flat(image))
        one, other = flat.packed(image), deep.packed(image[:, :, None])  # type: ignore[operator]
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@ONE_STAGE
@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_candidates_are_a_graph_of_any_number_of_patches(kind: str, dims: int) -> None:
    torch.manual_seed(0)
    network = family_of(kind).build(SMALL[kind](dims), 1, 3).eval()
    packed = PackedQueries(network)  # type: ignore[arg-type]
    patches = torch.randn(3, 1, *PATCHES[dims])
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(packed, (patches[:2],), dynamic_shapes=shapes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(patches), packed(patches))


@ONE_STAGE
@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_give_the_candidates_that_torch_gives(
    kind: str, dims: int, engine: EngineName
) -> None:
    torch.manual_seed(0)
    network = family_of(kind).build(SMALL[kind](dims), 1, 3).eval()
    packed = PackedQueries(network)  # type: ignore[arg-type]
    shape = (1, *PATCHES[dims])
    request = EngineRequest(
        network=packed, device=choose_device("cpu", "fp32"), patch_shape=shape,
        example_shape=shape, key=kind, cache=None,
    )  # fmt: skip
    patches = torch.randn(2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.as_tensor(ENGINES[engine](request)(patches)), packed(patches),
            atol=1e-3, rtol=1e-3,
        )  # fmt: skip


def test_packed_candidates_say_how_probable_each_class_and_none_are() -> None:
    masks = torch.randn(1, 2, 2, 2)
    found = Candidates(torch.tensor([[2, 1]]), torch.tensor([[0.7, 0.0]]), masks)
    semantic = torch.randn(1, 3, 2, 2)
    packed = packed_candidates(filled(found, 3), semantic)
    assert packed.shape == (1, 3 + 3, 4 + 4)
    probability = packed[0, :3, :4].softmax(-1)
    np.testing.assert_allclose(probability[0], [0, 0, 0.7, 0.3], atol=1e-5)
    assert bool((probability[1:, 3] > 0.999).all())  # one of no score, and one that is missing
    torch.testing.assert_close(packed[0, 0, 4:].view(2, 2), masks[0, 0])
    assert bool((packed[0, 1:3, 4:] < -9).all())
    torch.testing.assert_close(packed[0, 3:, 4:].view(3, 2, 2), semantic[0])


def test_places_run_from_edge_to_edge() -> None:
    found = with_places(torch.zeros(1, 2, 2, 4), (0, 0))
    assert found[0, 2, :, 0].tolist() == [-0.5, 0.5]
    assert found[0, 3, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_waves_halve_along_each_axis_as_often_as_it_has_them() -> None:
    found = with_places(torch.zeros(1, 2, 4, 16, dtype=torch.bfloat16), (0, 2))
    assert found.dtype == torch.bfloat16 and found.shape == (1, 2 + 1 + 5, 4, 16)
    turns = (np.arange(16) + 0.5) / 16 - 0.5  # of the first wave
    waves = [wave(2 * np.pi * turns * n) for wave in (np.sin, np.cos) for n in (1, 2)]
    np.testing.assert_allclose(found[0, 4:, 1].float(), waves, atol=4e-3)


@pytest.mark.parametrize("size", [(5, 6), (3, 5, 6)])
def test_leading_cells_are_those_that_none_before_them_exceeds(size: tuple[int, ...]) -> None:
    scores = torch.rand(1, 2, *size)
    found = leading(scores)[0, 0].numpy()
    window = (2,) * len(size)  # a cell, and the one before
    highest = ndimage.maximum_filter(scores[0, 0].numpy(), size=window, mode="constant")
    np.testing.assert_array_equal(found > 0, highest == scores[0, 0].numpy())


def test_two_cells_of_one_object_become_one_candidate_and_two_objects_stay() -> None:
    features = torch.zeros(1, 2, 4, 8)
    features[0, 0, :, :4], features[0, 1, :, 4:] = 1, 1
    cells, kernels = torch.full((1, 2, 1, 8), -9.0), torch.zeros(1, 2, 1, 8)
    for place, own, logit in ((0, 0, 3.0), (2, 0, 2.0), (6, 1, 1.0)):
        cells[0, 1, 0, place] = logit
        kernels[0, :, 0, place] = torch.tensor([-9.0, -9.0])
        kernels[0, own, 0, place] = 9.0
    found = surest_masks(SoloOutputs((cells,), (kernels,), features, features), 3)
    sure = torch.sigmoid(torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(found.scores[0, :2], sure, atol=1e-3, rtol=0)
    assert found.scores[0, 2] < 0.2 and found.classes[0, :2].tolist() == [1, 1]
    assert bool((found.masks[0, 0, :, :4] > 0).all()) and bool((found.masks[0, 1, :, 4:] > 0).all())


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_lose_to_surer_ones_whatever_the_order_of_their_cells(dims: int) -> None:
    torch.manual_seed(0)
    size, grid, count = (8,) * dims, (5,) * dims, 6
    features, kernels = torch.randn(2, 4, *size), torch.randn(2, 4, *grid)
    cells = torch.randn(2, 3, *grid)
    found = surest_masks(SoloOutputs((cells,), (kernels,), features, features), count)
    scores = leading(cells.sigmoid()).flatten(2)[:, 1:]
    for sample in range(2):
        best, classes = scores[sample].max(dim=0)
        first = best.argsort(descending=True)[: LOOKED_AT * count]
        masks = kernels[sample].flatten(1).T[first] @ features[sample].flatten(1)
        inside = (masks > 0).float()
        sure = best[first] * (masks.sigmoid() * inside).sum(1) / inside.sum(1).clamp_min(1)
        order = sure.argsort(descending=True)
        assert not torch.equal(order, torch.arange(len(order)))
        kept, alike = sure[order], classes[first][order] + 1
        lost = matrix_decay(mask_overlaps(inside[order][None]), alike[None])[0]
        last = (kept * lost).argsort(descending=True)[:count]
        torch.testing.assert_close(found.scores[sample], (kept * lost)[last])
        assert torch.equal(found.classes[sample], alike[last])
        torch.testing.assert_close(found.masks[sample].flatten(1), masks[order][last])


def test_masks_near_their_cells_fall_off_as_steeply_as_each_says() -> None:
    features = torch.randn(2, 2, 4, 8)
    grids = (2, 4), (1, 2)
    kernels = tuple(torch.randn(2, 3, *grid) for grid in grids)
    cells = tuple(torch.zeros(2, 2, *grid) for grid in grids)
    cell = torch.tensor([[6, 9], [1, 8]])
    where = {6: (0, 1, 2), 9: (1, 0, 1), 1: (0, 0, 1), 8: (1, 0, 0)}  # grid, row, column
    near = SoloOutputs(cells, kernels, features, features).masks_of(cell)
    far_kernels = tuple(one[:, :2] for one in kernels)
    far = SoloOutputs(cells, far_kernels, features, features).masks_of(cell)
    for sample, numbers in enumerate(cell.tolist()):
        for slot, number in enumerate(numbers):
            grid, down, along = where[number]
            rows, columns = grids[grid]
            y, x = np.meshgrid(
                (np.arange(4) + 0.5) * rows / 4, (np.arange(8) + 0.5) * columns / 8, indexing="ij"
            )
            steepness = np.log1p(np.exp(float(kernels[grid][sample, 2, down, along])))
            fall = steepness * ((y - down - 0.5) ** 2 + (x - along - 0.5) ** 2)
            found = far[sample, slot] - near[sample, slot]
            np.testing.assert_allclose(found, fall.ravel(), atol=1e-4)


def test_published_heads_and_older_models_have_masks_anywhere() -> None:
    plan = SMALL["solov2"](2)
    assert isinstance(plan, SoloPlan) and plan.near
    older = SoloPlan.model_validate(plan.model_dump(exclude={"near"}))
    network = family_of("solov2").build(older, 1, 3).eval()
    assert network.get_parameter("kernels.weight").shape[0] == older.mask_features
    packed = PackedQueries(network)  # type: ignore[arg-type]
    patch = torch.randn(1, 1, *PATCHES[2])
    program = torch.export.export(packed, (patch,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(patch), packed(patch))


@pytest.mark.parametrize("dims", [2, 3])
def test_changes_lead_to_the_box_that_they_were_made_of(dims: int) -> None:
    low = torch.rand(2, 9, dims) * 20
    boxes, anchors = torch.cat((low, low + 2 + torch.rand(2, 9, dims) * 20), dim=-1)
    torch.testing.assert_close(changed(anchors, changes_to(anchors, boxes)), boxes)


def test_masks_of_boxes_end_where_the_box_does_and_the_surest_of_a_place_is_kept() -> None:
    anchors = torch.tensor([[0.0, 0, 8, 8], [1, 0, 8, 8], [8, 8, 16, 16]])
    classes = torch.tensor([[[0.0, 5], [0, 4], [0, 3]]])
    found = YolactOutputs(
        classes, torch.zeros(1, 3, 4), torch.ones(1, 3, 1), anchors,
        torch.full((1, 1, 8, 8), 9.0), torch.zeros(1, 2, 8, 8),
    )  # fmt: skip
    kept = surest_boxes(found, 3, (16, 16))
    sure = torch.tensor([[5.0, 3.0]]).sigmoid()
    torch.testing.assert_close(kept.scores[:, :2], sure)
    assert float(kept.scores[0, 2]) == 0
    assert bool((kept.masks[0, 0, :4, :4] > 0).all()) and int((kept.masks[0, 0] > 0).sum()) == 16
    assert within(anchors[None], (8, 8), (16, 16)).sum(2).tolist() == [[16, 16, 16]]


def test_boxes_are_alike_in_mm_and_as_large_whatever_their_shape() -> None:
    cube, *others = boxes_of(8, (4.0, 1.0, 1.0))
    assert cube == (2, 8, 8) and len(others) == 3
    assert [round(float(np.prod(box)) / np.prod(cube), 2) for box in others] == [1, 1, 1]
    _, tall, wide = boxes_of(8, (1.0, 1.0))
    assert tall[0] / tall[1] == pytest.approx(2, abs=1e-3) and wide == tall[::-1]


def test_small_boxes_are_looked_for_at_fine_stages() -> None:
    pyramid = Pyramid.of(stages(topology_of(2)), 1, (1.0, 1.0))
    assert [pyramid.stage_of(mm) for mm in (0.5, 1, 2, 100)] == [0, 0, 1, 1]  # not at the lowest
    assert isinstance(family_of("solov2").build(SMALL["solov2"](2), 1, 2), nn.Module)
