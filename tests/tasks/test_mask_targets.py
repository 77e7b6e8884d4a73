import numpy as np
import pytest
import torch
from torch.nn import functional

from autoseg.dataset.labels import IGNORED
from autoseg.planning.model_plan import MaskQueriesPlan
from autoseg.tasks.mask_targets import NONE, UNKNOWN, corners_at, find_masks


def plan(queries: int = 6, border: int | None = None) -> MaskQueriesPlan:
    things = (1,) if border is None else (1, border)
    return MaskQueriesPlan(
        classes=3, things=things, border=border, queries=queries, mask_stride=(2, 2)
    )


def patch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two cells, 7 and 3, the first larger, and tissue, of class 2, in two pieces [1, y, x]."""
    labels, objects = torch.zeros((2, 1, 12, 12), dtype=torch.int32)
    labels[0, 2:6, 2:6], objects[0, 2:6, 2:6] = 1, 7
    labels[0, 2:5, 6:9], objects[0, 2:5, 6:9] = 1, 3
    labels[0, 8, :2] = labels[0, 10, :2] = 2
    return labels.to(torch.uint8), objects


def test_things_are_masks_by_object_and_all_else_by_class_the_largest_first() -> None:
    labels, objects = patch()
    found = find_masks(labels, objects, plan())
    assert found.classes.tolist() == [[0, 1, 1, 2]]
    assert int(found.count) == 4
    expected = [labels == 0, objects == 7, objects == 3, labels == 2]
    for number, mask in enumerate(expected):
        assert torch.equal(found.masks == number, mask)


def test_without_objects_every_class_is_a_mask() -> None:
    labels, _ = patch()
    found = find_masks(labels, None, plan())
    assert found.classes.tolist() == [[0, 1, 2]]
    assert torch.equal(found.masks == 1, labels == 1)


def test_the_smallest_masks_are_left_out_where_queries_are_few() -> None:
    labels, objects = patch()
    found = find_masks(labels, objects, plan(queries=2))
    assert found.classes.tolist() == [[0, 1]]
    assert torch.equal(found.masks == NONE, (objects == 3) | (labels == 2))


def test_what_nobody_annotated_is_of_no_mask() -> None:
    labels, objects = patch()
    labels[:, :, 6:] = IGNORED
    found = find_masks(labels, objects, plan())
    assert found.classes.tolist() == [[0, 1, 2]]
    assert torch.equal(found.masks == UNKNOWN, labels == IGNORED)
    labels[:] = IGNORED
    nothing = find_masks(labels, objects, plan())
    assert nothing.classes.tolist() == [[-1]]
    assert int(nothing.count) == 0 and bool((nothing.masks == UNKNOWN).all())


def test_voxels_of_things_without_a_number_are_of_no_mask() -> None:
    labels, objects = patch()
    cut = torch.where(objects == 3, 0, objects)
    cut[:, 2] = 0
    found = find_masks(labels, cut, plan())
    assert found.classes.tolist() == [[0, 1, 2]]
    assert torch.equal(found.masks == UNKNOWN, (labels == 1) & (cut == 0))
    assert torch.equal(found.masks == 1, cut == 7)


def test_a_border_is_a_part_of_its_object() -> None:
    labels, objects = patch()
    labels[0, 2:5, 5:7] = 2  # where the cells touch
    labels[0, 8:] = 0
    found = find_masks(labels, objects, plan(border=2))
    assert found.classes.tolist() == [[0, 1, 1]]
    assert torch.equal(found.masks == 1, objects == 7)
    assert int(found.labels.max()) == 1


def test_samples_of_a_batch_are_numbered_apart() -> None:
    labels, objects = patch()
    empty = torch.zeros_like(labels)
    found = find_masks(torch.cat((empty, labels)), torch.cat((objects * 0, objects)), plan())
    assert found.classes[0].tolist() == [0, -1, -1, -1]
    alone = find_masks(labels, objects, plan())
    assert torch.equal(found.masks[1], alone.masks[0])


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_masks_at_places_are_what_torch_interpolates(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.integers(-2, 3, (2, *shape)))
    places = torch.from_numpy(rng.uniform(-0.1, 1.1, (4, 50, len(shape)))).float()
    samples = torch.tensor([0, 1, 1, 0])
    corners = corners_at(masks, places, samples)
    grid = (2 * places - 1).view(4, 50, *[1] * (len(shape) - 1), len(shape))

    def interpolated(indicator: torch.Tensor) -> torch.Tensor:
        values = indicator[samples].float()[:, None]
        return functional.grid_sample(values, grid, align_corners=False).view(4, 50)

    everything = corners.of_all(3)
    for number in range(3):
        expected = interpolated(masks == number)
        torch.testing.assert_close(corners.of(torch.full((4,), number)), expected)
        torch.testing.assert_close(everything[:, number], expected)
    everywhere = interpolated(torch.ones_like(masks)).clamp_min(1e-6)
    torch.testing.assert_close(corners.known(), interpolated(masks != UNKNOWN) / everywhere)
