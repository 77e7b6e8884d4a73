import numpy as np
import pytest
import torch

from autoseg.tasks.directions import directions_in_objects, middles
from autoseg.tasks.numbering import ranks_of
from tests.objects_made_up import arcs, around_curves, balls, rods

SPACINGS = [(1.0, 1.0), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)]


def ball_of(spacing_mm: tuple[float, ...]) -> tuple[torch.Tensor, np.ndarray]:
    """A ball of 9 mm [1, *space], and where its voxels lie from its centre in mm [axis, *space]."""
    shape = [round(24 / mm) for mm in spacing_mm]
    centre = np.array(shape) // 2 * np.array(spacing_mm)
    numbers = around_curves(shape, spacing_mm, [[centre]], 9)
    places = np.moveaxis(np.argwhere(numbers >= 0).reshape(*shape, -1) * spacing_mm - centre, -1, 0)
    return torch.from_numpy(numbers)[None], places


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_in_a_ball_the_way_is_straight_to_its_centre_in_mm(spacing_mm: tuple[float, ...]) -> None:
    numbers, places = ball_of(spacing_mm)
    ways, known = directions_in_objects(numbers, spacing_mm, 80)
    far_mm = np.linalg.norm(places, axis=0)
    asked = known[0].numpy() & (far_mm > 2) & (far_mm < 7)
    cosine = (ways[0].numpy() * -places / np.maximum(far_mm, 1e-9)).sum(0)[asked]
    assert np.median(cosine) > 0.99 and cosine.min() > 0.85
    length = ways.norm(dim=1)[known]
    assert torch.allclose(length[length > 0], torch.ones(())) and (length == 0).sum() == 1


def test_of_bent_objects_the_middle_lies_well_inside() -> None:
    numbers = torch.from_numpy(arcs((60, 60), (1, 1)))[None]
    ranks = ranks_of(numbers.flatten(1))
    middle = middles((numbers > 0).float(), ranks, (1.0, 1.0))[0] & (numbers[0] > 0)
    ways, _ = directions_in_objects(numbers, (1.0, 1.0), 120)
    chosen = (ways[0].norm(dim=0) == 0) & (numbers[0] > 0)
    assert sorted(numbers[0][middle].tolist()) == sorted(numbers[0][chosen].tolist()) == [1, 2, 3]
    y, x = np.nonzero(chosen.numpy())
    around = numbers[0].numpy()
    for a, b in zip(y, x, strict=True):  # no other object, nor background, is beside it
        assert len(np.unique(around[a - 1 : a + 2, b - 1 : b + 2])) == 1


@pytest.mark.parametrize("made", [balls, arcs, rods])
def test_small_steps_along_the_way_stay_in_the_object_and_end_in_its_middle(made: object) -> None:
    numbers = made((60, 60), (1.0, 1.0))  # type: ignore[operator]
    ways, _ = directions_in_objects(torch.from_numpy(numbers)[None], (1.0, 1.0), 200)
    flow, start = ways[0].numpy(), np.argwhere(numbers > 0)
    place = start.astype(float)
    for _ in range(400):
        here = np.rint(place).astype(int)
        place = place + 0.5 * flow[:, here[:, 0], here[:, 1]].T
    last = np.rint(place).astype(int)
    same = numbers[tuple(last.T)] == numbers[tuple(start.T)]
    assert same.mean() > 0.995
    for number in np.unique(numbers[numbers > 0]):
        middle = np.argwhere((numbers == number) & (np.linalg.norm(flow, axis=0) == 0))
        own = last[(numbers[tuple(start.T)] == number) & same]
        assert np.median(np.linalg.norm(own - middle[0], axis=1)) < 2


def test_of_what_the_patch_cuts_nothing_is_known() -> None:
    numbers = torch.zeros((2, 12, 12), dtype=torch.int32)
    numbers[0, 0:5, 3:8] = 5  # reaches the border
    numbers[0, 6:11, 3:8] = 9
    numbers[1, 3:8, 3:8] = 5
    _, known = directions_in_objects(numbers, (1.0, 1.0), 30)
    assert not known[0, :5].any() and bool(known[0, 6:11, 3:8].all())
    assert int(known[1].sum()) == 25
