"""Plans for so many hours, where memory ends before time does."""

from dataclasses import replace
from math import prod

import pytest

from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.networks.deeplab_family import plan_deeplab
from autoseg.networks.traced_search import search_by
from autoseg.pipeline.fitting import plan_within
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.rules import load_rule_set
from autoseg.planning.search import NetworkFamily
from tests.planning.specified import CPU, Scans, made_up_fingerprint

LEAST_VOX = 64 * 64


def cost(model: ModelPlan) -> NetworkCost:
    """Of a network whose norms refuse small patches, as tracing does."""
    voxels = prod(model.patch_size_vox)
    if voxels < LEAST_VOX:
        raise ValueError("Expected more than 1 spatial element when training")
    return replace(NetworkCost(1, 1, 1, 1, 1), kept_bytes=40_000 * voxels, multiply_adds=10**15)


def family(kind: str) -> NetworkFamily:
    return replace(family_of(kind), cost=cost, search=search_by(plan_deeplab, cost))


def inputs() -> PlanningInputs:
    scans = made_up_fingerprint(Scans((1, 512, 512), (1, 1, 1), count=50))
    return PlanningInputs(scans, load_rule_set("deeplab"), CPU, family)


def test_the_smallest_plan_is_taken_where_memory_leaves_no_smaller_one() -> None:
    plan, _ = plan_within(inputs(), "smallest", 1e-6)
    patch = plan.configurations[plan.recommended].model.patch_size_vox
    assert LEAST_VOX <= prod(patch) < 512 * 512


def test_memory_that_no_patch_fits_into_is_told() -> None:
    with pytest.raises(AutosegError, match="No patch fits into"):
        plan_within(replace(inputs(), memory_factor=1e-3), None, None)
