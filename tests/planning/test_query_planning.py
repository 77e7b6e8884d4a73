"""What is planned for mask queries, with networks that cost nothing, so that none is traced.

Covers: likeness, task_choice.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from autoseg.dataset.labels import Region
from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.networks import family_of
from autoseg.networks.mask_queries_family import plan_mask_queries
from autoseg.networks.traced_search import search_by
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.facts import gather_facts
from autoseg.planning.likeness import plan_like
from autoseg.planning.model_plan import MaskQueriesPlan, ModelPlan
from autoseg.planning.network_plan import QueryNetworkPlan
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Plan
from autoseg.planning.rules import load_rule_set
from autoseg.planning.run_plan import MatchingPlan
from autoseg.planning.search import NetworkFamily
from tests.planning.specified import CPU, Scans, gpu, made_up_fingerprint, plan_of, with_things

SCANS = Scans((64, 96, 96), (1, 1, 1), count=50)


def free(kind: str) -> NetworkFamily:
    def cost(model: ModelPlan) -> NetworkCost:
        return NetworkCost(1, 1, 1, 1, 1)

    return replace(family_of(kind), cost=cost, search=search_by(plan_mask_queries, cost))


def with_objects() -> Fingerprint:
    return with_things(made_up_fingerprint(SCANS))


def planned(fingerprint: Fingerprint, rules: str, machine: Machine) -> Plan:
    return plan_of(fingerprint, rules, machine, families=free)


def network(fingerprint: Fingerprint, rules: str, machine: Machine) -> QueryNetworkPlan:
    found = planned(fingerprint, rules, machine).configurations["3d_fullres"].model.network
    assert isinstance(found, QueryNetworkPlan)
    return found


def test_queries_are_half_again_as_many_as_there_are_masks() -> None:
    fingerprint = with_objects()
    assert network(fingerprint, "mask_queries", gpu(8)).queries == 100  # as published, at least
    assert network(fingerprint, "mask_queries", gpu(8)).cells == ()  # learned, as published
    assert network(fingerprint, "mask_queries", CPU).cells == (3, 4, 4)
    no_things = made_up_fingerprint(SCANS)
    assert network(no_things, "mask_queries", CPU).queries == 20  # the least of the rule


def test_masks_are_finer_where_objects_are_small() -> None:
    small, large = with_objects(), made_up_fingerprint(SCANS)
    assert gather_facts(small, CPU, "2d").smallest_object_vox == pytest.approx(6)
    # A ball of 1e6 mm3 is 124 mm wide.
    assert gather_facts(large, CPU, "2d").smallest_object_vox == pytest.approx(124, abs=0.1)
    assert max(network(small, "mask_queries", gpu(8)).mask_stride) == 2
    assert max(network(large, "mask_queries", gpu(8)).mask_stride) == 4


def test_maskformer_looks_at_all_of_the_lowest_resolution() -> None:
    found = network(with_objects(), "maskformer", CPU)
    assert (found.attention, found.pixel_decoder) == ("full", "fpn")
    masked = network(with_objects(), "mask_queries", CPU)
    assert (masked.attention, masked.pixel_decoder) == ("masked", "deformable")


def test_task_and_loss_are_those_of_queries() -> None:
    configuration = planned(with_objects(), "mask_queries", gpu(8)).configurations["3d_fullres"]
    task, loss = configuration.model.task, configuration.run.loss
    assert isinstance(task, MaskQueriesPlan) and task.things == (1,) and task.border is None
    assert loss.kind == "matched_masks" and loss.matching == MatchingPlan(points=12544)
    training = configuration.run.training
    assert (training.optimizer, training.learning_rate, training.weight_decay) == (
        "adamw", 1e-4, 0.05,
    )  # fmt: skip
    assert training.gradient_clip_norm == 0.01


def test_rules_may_not_mix_queries_with_other_tasks_nor_with_regions(tmp_path: Path) -> None:
    (tmp_path / "ruleset.toml").write_text('title = "mixed"\nextends = "mask_queries"\n')
    rule = 'id = "task.mixed"\ndecides = "task"\nvalue = "semantic"\nbecause = "?"\nsource = "?"\n'
    (tmp_path / "mixed.toml").write_text(f"[[rule]]\n{rule}")
    fingerprint = made_up_fingerprint(SCANS)
    with pytest.raises(AutosegError, match="need each other"):
        planned(fingerprint, str(tmp_path), CPU)
    region = Region(name="whole", values=(1,))
    labels = fingerprint.labels.model_copy(update={"regions": (region,), "region_order": (1,)})
    with pytest.raises(AutosegError, match="regions, which may overlap"):
        planned(fingerprint.model_copy(update={"labels": labels}), "mask_queries", CPU)


def test_settings_leave_queries_to_their_task_and_their_loss() -> None:
    plan = planned(with_objects(), "mask_queries", gpu(8))
    found = with_settings(plan, ["loss.matching.points=64"], free).configurations["2d"]
    assert found.run.loss.matching == MatchingPlan(points=64)
    with pytest.raises(AutosegError, match="are the task's as well"):
        with_settings(plan, ["network.queries=7"], free)
    in_cells = planned(with_objects(), "mask_queries", CPU)
    for cells in ("5,5,5", "6,8", "0,4,4"):
        with pytest.raises(AutosegError, match="cells"):
            with_settings(in_cells, [f"3d_fullres.network.cells={cells}"], free)
    set_by_hand = ["3d_fullres.patch_size_vox=16,128,128"]
    model = with_settings(in_cells, set_by_hand, free).configurations["3d_fullres"].model
    assert isinstance(model.network, QueryNetworkPlan) and isinstance(model.task, MaskQueriesPlan)
    assert model.network.cells == (1, 7, 7) and model.task.queries == model.network.queries == 49
    with pytest.raises(AutosegError, match="a loss of their own"):
        with_settings(plan, ["loss.kind=ce_dice"], free)


def test_plans_like_a_model_have_its_masks() -> None:
    fingerprint = with_objects()
    model = planned(made_up_fingerprint(SCANS), "mask_queries", gpu(8)).configurations["3d_fullres"]
    inputs = PlanningInputs(fingerprint, load_rule_set("mask_queries"), gpu(8), free)
    own = planned(fingerprint, "mask_queries", gpu(8))
    task = plan_like(model, "model", own, inputs).configurations["3d_fullres"].model.task
    assert isinstance(task, MaskQueriesPlan)
    assert task.things == (1,) and max(task.mask_stride) == 4
    other = plan_of(fingerprint, "default", gpu(8))
    with pytest.raises(AutosegError, match="--rules mask_queries"):
        plan_like(model, "model", other, inputs)
