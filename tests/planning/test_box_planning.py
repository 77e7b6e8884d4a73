"""What is planned for boxes, with networks that cost nothing, so that none is traced.

Covers: box_network_plan, stage_plan.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.geometry import Shape3
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.networks import family_of
from autoseg.networks.mask_rcnn_family import plan_mask_rcnn
from autoseg.networks.traced_search import search_by
from autoseg.planning.choices import MedianGrid
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import NetworkCost
from autoseg.planning.facts import object_sizes_mm
from autoseg.planning.likeness import plan_like
from autoseg.planning.model_plan import BoxesPlan, ModelPlan
from autoseg.planning.network_plan import BoxNetworkPlan
from autoseg.planning.overrides import with_settings
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.rules import load_rule_set
from autoseg.planning.search import ExpectedObjects, NetworkFamily
from autoseg.planning.task_choice import expected_objects
from tests.planning.specified import CPU, Scans, gpu, made_up_fingerprint, plan_of, with_things

SCANS = Scans((64, 96, 96), (1, 1, 1), count=50)


def free(kind: str) -> NetworkFamily:
    def cost(model: ModelPlan) -> NetworkCost:
        return NetworkCost(1, 1, 1, 1, 1)

    return replace(family_of(kind), cost=cost, search=search_by(plan_mask_rcnn, cost))


def fingerprint() -> Fingerprint:
    return with_things(made_up_fingerprint(SCANS))


def configured(plan: Plan, name: str = "3d_fullres") -> tuple[Configuration, BoxNetworkPlan]:
    configuration = plan.configurations[name]  # type: ignore[index]
    network = configuration.model.network
    assert isinstance(network, BoxNetworkPlan)
    return configuration, network


def test_task_and_loss_are_those_of_boxes_and_anchors_are_explained() -> None:
    plan = plan_of(fingerprint(), "mask_rcnn", gpu(8), families=free)
    configuration, network = configured(plan)
    task = configuration.model.task
    assert isinstance(task, BoxesPlan) and task.things == (1,)
    assert task.mask_stride == network.mask_stride == (2, 2, 2)
    assert configuration.run.loss.boxes is not None
    assert configuration.run.loss.boxes.matching == "atss"
    assert network.steps == 1 and network.points == 0 and network.dense_classes == ()
    [anchors] = [
        d for d in plan.decisions if d.name == "anchors" and d.configuration == "3d_fullres"
    ]
    assert "of 150 objects, whose IoU" in anchors.because


def test_there_are_as_many_detections_as_a_patch_may_need() -> None:
    _, small = configured(plan_of(fingerprint(), "mask_rcnn", CPU, families=free))
    # 30 in a box of 128 voxels on a side, of which the patch has a share.
    objects = ExpectedObjects(in_scan=50, in_box=30, box_mm=(128, 128, 128))
    assert objects.likely_in_patch((128, 128, 128)) == 30
    assert objects.likely_in_patch((256, 128, 128)) == 50
    assert objects.likely_in_patch((64, 64, 64)) == 10  # 3.75, and three deviations more
    # A scan that is smaller than the box has all of them in fewer voxels.
    thin = ExpectedObjects(in_scan=50, in_box=30, box_mm=(48, 96, 96))
    assert thin.likely_in_patch((40, 80, 80)) == 30
    assert thin.likely_in_patch((48, 48, 48)) == 16  # 7.5, and three deviations more
    assert small.detections >= 16 and small.proposals == 2 * small.detections


def test_a_box_is_no_larger_than_scans_are() -> None:
    scans = with_things(made_up_fingerprint(Scans((64, 96, 300), (3, 1, 1), count=5)))
    grid = MedianGrid("as_stored", (0, 1, 2), (3.0, 1.0, 1.0), (64, 96, 300), None)
    assert expected_objects(scans, grid).box_mm == (192, 96, 128)


def test_the_same_tissue_at_a_lower_resolution_holds_as_many_objects() -> None:
    """`3d_lowres` and full resolution are planned with the same box."""
    objects = ExpectedObjects(in_scan=50, in_box=30, box_mm=(64, 96, 96))
    assert objects.likely_in_patch([n * 2.0 for n in (32, 48, 48)]) == 30
    assert objects.likely_in_patch([n * 1.0 for n in (64, 96, 96)]) == 30


def test_sizes_follow_the_orientation_of_each_scan() -> None:
    lying = made_up_fingerprint(SCANS, SCANS)
    size: dict[str, tuple[Shape3, ...]] = {"object_sizes_vox": ((2, 4, 8),)}
    cases = [case.model_copy(update=size | {"axis_codes": c, "spacing_mm": (3.0, 1.0, 1.0)})
             for case, c in zip(lying.cases, ("SAR", "RAS"), strict=False)]  # fmt: skip
    lying = lying.model_copy(update={"cases": tuple(cases)})
    assert object_sizes_mm(lying, "as_stored").tolist() == [[6, 4, 8], [6, 4, 8]]
    assert sorted(object_sizes_mm(lying, "canonical").tolist()) == [[6, 4, 8], [8, 4, 6]]
    none = ExpectedObjects(sizes_mm=((6.0, 4.0, 8.0),))
    np.testing.assert_allclose(none.sizes_vox((2.0, 4.0)), [[2, 2]])


def test_what_does_not_count_one_by_one_is_told_apart_by_a_panoptic_branch() -> None:
    cells = fingerprint()
    labels = cells.labels.model_copy(
        update={"values": (0, 1, 2), "names": ("background", "organ", "tissue")}
    )
    (organ,) = cells.classes
    tissue = organ.model_copy(update={"name": "tissue", "value": 2, "objects": None})
    both = cells.model_copy(update={"labels": labels, "classes": (organ, tissue)})
    assert configured(plan_of(both, "mask_rcnn", CPU, families=free))[1].dense_classes == (0, 2)


def test_a_cascade_with_refined_masks_is_a_rule_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "ruleset.toml").write_text('title = "cascade"\nextends = "mask_rcnn"\n')
    rule = (
        '[[rule]]\nid = "network.cascade"\ndecides = "network"\n'
        'changes = { kind = "mask_rcnn", size = "mask_rcnn", steps = 3, point_rend = true }\n'
        'because = "the most exact"\nsource = "this test"\n'
    )
    (tmp_path / "cascade.toml").write_text(rule)
    _, network = configured(plan_of(fingerprint(), str(tmp_path), gpu(8), families=free))
    assert (network.steps, network.points, network.subdivisions) == (3, 196, 1)
    plan = plan_of(fingerprint(), "mask_rcnn", gpu(8), families=free)
    assert configured(with_settings(plan, ["network.steps=3"], free))[1].steps == 3
    with pytest.raises(AutosegError, match=r"3 steps need as many loss\.boxes\.overlaps"):
        with_settings(plan, ["network.steps=3", "loss.boxes.overlaps=0.5,0.6"], free)
    with pytest.raises(AutosegError, match="resolution is the task's as well"):
        with_settings(plan, ["network.mask_stride=1,1,1"], free)
    with pytest.raises(AutosegError, match="a loss of their own"):
        with_settings(plan, ["loss.kind=ce_dice"], free)


def test_without_things_there_are_no_boxes() -> None:
    with pytest.raises(AutosegError, match="this dataset has none"):
        plan_of(made_up_fingerprint(SCANS), "mask_rcnn", CPU, families=free)


def test_boxes_need_their_network(tmp_path: Path) -> None:
    (tmp_path / "ruleset.toml").write_text('title = "mixed"\nextends = "default"\n')
    rule = 'id = "task.mixed"\ndecides = "task"\nvalue = "boxes"\nbecause = "?"\nsource = "?"\n'
    (tmp_path / "mixed.toml").write_text(f"[[rule]]\n{rule}")
    with pytest.raises(AutosegError, match="need each other"):
        plan_of(fingerprint(), str(tmp_path), gpu(8))


def test_plans_like_a_model_have_its_boxes() -> None:
    inputs = PlanningInputs(fingerprint(), load_rule_set("mask_rcnn"), gpu(8), free)
    own = plan_of(fingerprint(), "mask_rcnn", gpu(8), families=free)
    model = with_settings(own, ["network.detections=7"], free).configurations["3d_fullres"]
    found, network = configured(plan_like(model, "model", own, inputs))
    assert network.detections == 7 and isinstance(found.model.task, BoxesPlan)
    other = plan_of(fingerprint(), "default", gpu(8))
    with pytest.raises(AutosegError, match="--rules mask_rcnn"):
        plan_like(model, "model", other, inputs)
