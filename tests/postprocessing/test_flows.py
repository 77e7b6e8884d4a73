import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.postprocessing.flows import FlowRule, part_by_flow
from autoseg.postprocessing.instances import InstanceRule, label_instances
from autoseg.tasks.depth import depth_in_objects
from autoseg.tasks.directions import directions_in_objects
from tests.objects_made_up import Numbers, arcs, balls, recovered, rods

GRIDS = {
    "slice": ((1, 60, 60), (1.0, 1.0, 1.0)),
    "volume": ((14, 60, 60), (1.0, 1.0, 1.0)),
    "thick slices": ((9, 60, 60), (3.0, 1.0, 1.0)),
}
MADE = {"balls": balls, "arcs": arcs, "rods": rods}
Spacing = tuple[float, float, float]


def made(name: str, grid: str) -> tuple[Numbers, Spacing]:
    shape, spacing_mm = GRIDS[grid]
    if shape[0] == 1:
        return MADE[name](shape[1:], spacing_mm[1:])[None], spacing_mm
    return MADE[name](shape, spacing_mm), spacing_mm


def true_ways(numbers: Numbers, spacing_mm: Spacing, steps: int = 150) -> NDArray[np.float32]:
    """[axis, z, y, x]"""
    ways, _ = directions_in_objects(torch.from_numpy(numbers)[None], spacing_mm, steps)
    return np.asarray(ways[0])


def parted(numbers: Numbers, ways: NDArray[np.float32], spacing_mm: Spacing) -> NDArray[np.int64]:
    mask = (numbers > 0).astype(np.uint8)
    return label_instances(mask, spacing_mm, InstanceRule(), ways)[0].astype(np.int64)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", MADE)
def test_objects_that_touch_come_back_from_their_true_ways(name: str, grid: str) -> None:
    numbers, spacing_mm = made(name, grid)
    found = parted(numbers, true_ways(numbers, spacing_mm), spacing_mm)
    assert found.max() == len(np.unique(numbers)) - 1
    assert recovered(numbers, found).min() > 0.95


@pytest.mark.parametrize("grid", ["slice", "thick slices"])
@pytest.mark.parametrize("name", MADE)
def test_ways_bear_noise_that_depths_do_not(name: str, grid: str) -> None:
    numbers, spacing_mm = made(name, grid)
    depth_mm, _ = depth_in_objects(torch.from_numpy(numbers)[None], spacing_mm, 6.0)
    rng = np.random.default_rng(0)
    share = {}
    for what, true, noise in (
        ("ways", true_ways(numbers, spacing_mm), 0.3),
        ("depth", depth_mm.numpy() / 6, 0.1),
    ):
        smooth = ndimage.gaussian_filter(
            rng.normal(size=true.shape), [0, *(1.5 * (n > 1) for n in numbers.shape)]
        )
        found = parted(numbers, true + (noise * smooth / smooth.std()).astype("f4"), spacing_mm)
        share[what] = (recovered(numbers, found) > 0.9).mean()
    assert share["ways"] >= share["depth"] - 0.1 and share["ways"] > 0.6


def test_ends_of_ways_that_do_not_part_are_one_object() -> None:
    mask = np.zeros((1, 12, 42), bool)
    mask[0, 2:10, 1:41] = True
    flow = np.zeros((3, 1, 12, 42), np.float32)
    flow[2, 0, :, :21], flow[2, 0, :, 21:] = 1, -1  # to the middle
    flow[2, 0, 5:7, 15] = 0  # where some ways end before it
    assert part_by_flow(mask, flow, (1, 1, 1), FlowRule()) is None
    assert part_by_flow(mask, -flow, (1, 1, 1), FlowRule()) is not None  # apart from there


def test_parts_that_are_too_small_go_to_their_neighbour() -> None:
    mask = np.ones((1, 4, 20), bool)
    flow = np.zeros((3, 1, 4, 20), np.float32)
    flow[2, 0, :, 2:10], flow[2, 0, :, :2] = 1, -1
    flow[2, 0, :, 10:] = 1
    flow[2, 0, :, 15:] = 1
    flow[2, 0, :, 14] = -1
    flow[2, 0, :, 10:14] = -1
    many, few = (part_by_flow(mask, flow, (1, 1, 1), FlowRule(), least) for least in (1, 9))
    assert many is not None and few is not None
    assert few.max() < many.max() and np.bincount(few.ravel())[1:].min() >= 9


def rough(smoothing: float, spacing_mm: Spacing) -> float:
    """The share of balls found again by ways a third as long, with noise in each pixel; a pixel's
    edge is the unit."""
    numbers, _ = made("balls", "slice")
    rng = np.random.default_rng(0)
    ways = 0.3 * true_ways(numbers, (1.0, 1.0, 1.0))
    ways += rng.normal(0, 0.3, ways.shape).astype("f4") * (np.arange(3) > 0)[:, None, None, None]
    rule = InstanceRule(flows=FlowRule(smoothing=smoothing))
    mask = (numbers > 0).astype(np.uint8)
    found = label_instances(mask, spacing_mm, rule, ways)[0].astype(np.int64)
    return float((recovered(numbers, found) > 0.8).mean())


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.0, 5.0, 5.0), (1.0, 0.2, 0.2)])
def test_short_and_rough_ways_part_when_smoothed_however_thick_a_slice_is(
    spacing_mm: Spacing,
) -> None:
    assert rough(1.0, spacing_mm) > 0.9 > rough(0.0, spacing_mm)
