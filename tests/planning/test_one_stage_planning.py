"""What is planned for SOLOv2 and YOLACT, with networks that cost nothing, so that none is traced.

Covers: one_stage_plan, task_choice.
"""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.networks import family_of
from autoseg.networks.one_stage_family import plan_solo, plan_yolact
from autoseg.networks.traced_search import search_by
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.likeness import plan_like
from autoseg.planning.model_plan import CandidatesPlan, ModelPlan
from autoseg.planning.network_plan import OneStagePlan, SoloPlan, YolactPlan
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Plan
from autoseg.planning.rules import load_rule_set
from autoseg.planning.search import NetworkFamily
from tests.planning.specified import CPU, Scans, made_up_fingerprint, plan_of, with_things

KINDS = pytest.mark.parametrize("kind", ["solov2", "yolact"])
SIZES = ((3, 4, 5), (6, 6, 6), (24, 30, 36), (40, 40, 40))


def free(kind: str) -> NetworkFamily:
    def cost(model: ModelPlan) -> NetworkCost:
        return NetworkCost(1, 1, 1, 1, 1)

    if kind == "yolact":
        return replace(family_of(kind), cost=cost, search=search_by(plan_yolact, cost))
    return replace(family_of(kind), cost=cost, search=search_by(plan_solo, cost))


def fingerprint() -> Fingerprint:
    """Objects of about 4 to 40 mm."""
    many = with_things(made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50)))
    cases = tuple(case.model_copy(update={"object_sizes_vox": SIZES}) for case in many.cases)
    return many.model_copy(update={"cases": cases})


def configured(plan: Plan) -> tuple[OneStagePlan, CandidatesPlan]:
    model = plan.configurations["3d_fullres"].model
    assert isinstance(model.network, OneStagePlan) and isinstance(model.task, CandidatesPlan)
    return model.network, model.task


@KINDS
def test_the_task_has_the_networks_candidates_and_masks(kind: str) -> None:
    network, task = configured(plan_of(fingerprint(), kind, CPU, families=free))
    assert task.kind == kind and task.things == (1,)
    assert (task.queries, task.mask_stride) == (network.candidates, network.mask_stride)
    assert min(network.mask_stride) == 2


def test_grids_and_boxes_are_as_fine_as_the_objects_need() -> None:
    solo, task = configured(plan_of(fingerprint(), "solov2", CPU, families=free))
    assert isinstance(solo, SoloPlan) and len(task.sizes_mm) == len(solo.grids) == 3
    assert solo.near  # published sizes are not
    assert task.sizes_mm[0][0] == 0 and solo.grids[0][0] > solo.grids[1][0] > solo.grids[2][0]
    yolact, _ = configured(plan_of(fingerprint(), "yolact", CPU, families=free))
    assert isinstance(yolact, YolactPlan)
    cubes = [anchors[0][0] for anchors in yolact.anchors]
    assert [b / a for a, b in pairwise(cubes)] == pytest.approx([2] * 3, 1e-3)
    assert cubes[0] < 8 and cubes[-1] > 28  # within half an octave of 4 and of 40


def test_grids_follow_a_patch_that_is_set_by_hand() -> None:
    own = plan_of(fingerprint(), "solov2", CPU, families=free)
    solo, _ = configured(own)
    assert isinstance(solo, SoloPlan)
    before = own.configurations["3d_fullres"].model.patch_size_vox
    after = tuple(n + 16 * (n // 32) for n in before)
    setting = f"3d_fullres.patch_size_vox={','.join(map(str, after))}"
    changed, _ = configured(with_settings(own, [setting], free))
    assert isinstance(changed, SoloPlan)
    for old, new in zip(solo.grids, changed.grids, strict=True):
        exact = [Fraction(n * b, a) for n, a, b in zip(old, before, after, strict=True)]
        assert new == tuple(map(ceil, exact))
    assert solo.waves == tuple(int(np.log2(n / 8)) + 1 for n in before)  # the smallest are 4 mm
    assert changed.waves == solo.waves  # weights depend on them
    with pytest.raises(AutosegError, match="for each axis"):
        with_settings(own, ["3d_fullres.network.waves=3,3"], free)


def test_no_wave_is_shorter_than_four_voxels_of_masks() -> None:
    thick = with_things(made_up_fingerprint(Scans((32, 96, 96), (5, 1, 1), count=50)))
    cases = tuple(case.model_copy(update={"object_sizes_vox": SIZES}) for case in thick.cases)
    own = plan_of(thick.model_copy(update={"cases": cases}), "solov2", CPU, families=free)
    solo, _ = configured(own)
    assert isinstance(solo, SoloPlan) and min(solo.waves) > 1
    patch = own.configurations["3d_fullres"].model.patch_size_vox
    for n, stride, count in zip(patch, solo.mask_stride, solo.waves, strict=True):
        assert n / 2 ** (count - 1) >= 4 * stride


@KINDS
def test_plans_like_a_model_look_for_what_it_looks_for(kind: str) -> None:
    inputs = PlanningInputs(fingerprint(), load_rule_set(kind), CPU, free)
    own = plan_of(fingerprint(), kind, CPU, families=free)
    model = own.configurations["3d_fullres"]
    smaller = {"object_sizes_vox": ((3, 3, 3),)}
    cases = tuple(case.model_copy(update=smaller) for case in fingerprint().cases)
    others = fingerprint().model_copy(update={"cases": cases})
    base = plan_of(others, kind, CPU, families=free)
    wide = model.inference.model_copy(update={"smallest_object_mm": 99.0})  # of other data
    like = plan_like(model.model_copy(update={"inference": wide}), "model", base, inputs)
    _, task = configured(like)
    smallest_mm = base.configurations["3d_fullres"].inference.smallest_object_mm
    assert like.configurations["3d_fullres"].inference.smallest_object_mm == smallest_mm > 0
    assert isinstance(model.model.task, CandidatesPlan)
    assert task.sizes_mm == model.model.task.sizes_mm
    with pytest.raises(AutosegError, match=f"--rules {kind}"):
        plan_like(model, "model", plan_of(fingerprint(), "cpu", CPU), inputs)


def test_what_the_task_has_as_well_is_changed_in_rules_only() -> None:
    plan = plan_of(fingerprint(), "yolact", CPU, families=free)
    with pytest.raises(AutosegError, match="are the task's as well"):
        with_settings(plan, ["network.candidates=7"], free)
