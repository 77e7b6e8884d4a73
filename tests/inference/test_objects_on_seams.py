"""Objects on the seams of patches are neither cut nor doubled, since depths, or ways to their
middles, merge before objects.

Covers: merging, sliding_window, whole_scan.
"""

import itertools

import numpy as np
import pytest
import torch

from autoseg.inference.sliding_window import Batching, PredictPatches, predict_logits
from autoseg.planning.plan import InferencePlan
from autoseg.postprocessing.instances import InstanceRule, label_instances
from autoseg.tasks.depth import depth_in_objects
from autoseg.tasks.directions import directions_in_objects

PLAN = InferencePlan(
    step_fraction=0.5,
    gaussian_sigma_fraction=0.125,
    mirror_axes=(),
    median_shape_vox=(40, 40, 40),
)
REACH = 5.0


def touching_balls(shape: tuple[int, int, int]) -> np.ndarray:
    """Balls of radius 5 that touch in a grid of 8: every seam of any patches cuts some."""
    wide = [size for size in shape if size > 1]
    centres = itertools.product(*(np.arange(6, size - 4, 8) for size in wide))
    place = np.stack(np.meshgrid(*map(np.arange, wide), indexing="ij"), -1)
    nearest, numbers = np.full(tuple(wide), np.inf), np.zeros(tuple(wide), np.int64)
    for number, centre in enumerate(centres, 1):
        distance = np.linalg.norm(place - np.array(centre) - 0.3, axis=-1)
        numbers[(distance < nearest) & (distance < 5)] = number
        nearest = np.minimum(nearest, distance)
    return numbers.reshape(shape)


def near_sighted(patches: torch.Tensor) -> torch.Tensor:
    """Classes and depth as a network that sees nothing beyond the patch would tell them at best."""
    numbers = patches[:, 0].round().int()
    depth, _ = depth_in_objects(numbers, (1.0, 1.0, 1.0), REACH)
    inside = (numbers > 0).float()
    return torch.stack((1 - inside, inside, depth / REACH), dim=1)


def near_sighted_ways(patches: torch.Tensor) -> torch.Tensor:
    """The same of ways to the middle of what the patch shows of an object."""
    numbers = patches[:, 0].round().int()
    ways, _ = directions_in_objects(numbers, (1.0, 1.0, 1.0), 40)
    inside = (numbers > 0).float()
    return torch.cat((torch.stack((1 - inside, inside), dim=1), ways), dim=1)


@pytest.mark.parametrize("seen", [near_sighted, near_sighted_ways])
@pytest.mark.parametrize(
    ("shape", "patch"), [((1, 70, 62), (1, 24, 24)), ((30, 38, 30), (16, 20, 16))]
)
@pytest.mark.parametrize("step_fraction", [0.5, 0.9])
def test_every_object_is_found_once_and_whole(
    seen: PredictPatches,
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    step_fraction: float,
) -> None:
    truth = touching_balls(shape)
    plan = PLAN.model_copy(update={"step_fraction": step_fraction})
    batching = Batching(inputs_at_once=4, sums_on=torch.device("cpu"))
    image = torch.from_numpy(truth)[None].float()
    everywhere = ((0, shape[1]), (0, shape[2]))
    slabs = predict_logits(image, seen, patch, plan, everywhere, batching)
    scores = torch.cat([slab.clone() for slab in slabs], dim=1).numpy()
    labels = scores[:2].argmax(0).astype(np.uint8)
    found, objects = label_instances(labels, (1, 1, 1), InstanceRule(), scores[2:])
    assert len(objects) == truth.max()
    for number in range(1, truth.max() + 1):
        own = truth == number
        overlap = np.bincount(found[own])
        best = int(overlap.argmax())
        assert overlap[best] / (own | (found == best)).sum() > 0.85, number
