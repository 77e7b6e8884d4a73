"""What is planned where there is no GPU, and where there is one."""

import math
from typing import Any

import pytest

from autoseg.machine import Machine
from autoseg.networks import family_of
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.stage_plan import stride_of
from tests.planning.specified import CPU, Scans, gpu, made_up_fingerprint, plan_of, with_things

GPU = gpu(24)
MUON: dict[str, Any] = {"optimizer": "muon", "learning_rate": 5e-3, "momentum": 0.95}


def whole(rules: str, machine: Machine) -> Plan:
    scans = with_things(made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50)))
    return plan_of(scans, rules, machine)


def planned(rules: str, machine: Machine) -> Configuration:
    return whole(rules, machine).configurations["3d_fullres"]


@pytest.mark.parametrize(
    ("rules", "machine", "expected"),
    [
        ("cpu", CPU, MUON),
        ("fcn", CPU, MUON),
        ("fcn", GPU, {"optimizer": "sgd", "learning_rate": 0.01}),
        ("flow", CPU, MUON),
        ("deeplab", CPU, MUON | {"weight_decay": 4e-5}),
        ("deeplab", GPU, {"optimizer": "sgd", "learning_rate": 0.007, "weight_decay": 4e-5}),
        ("mednext", CPU, MUON),
        ("mednext", GPU, {"optimizer": "adamw", "learning_rate": 1e-3}),
        ("segformer", CPU, MUON | {"head_rate": 1, "warmup_fraction": 0.0094}),
        ("segformer", GPU, {"optimizer": "adamw", "learning_rate": 6e-5, "head_rate": 10}),
        ("solov2", CPU, MUON),
        ("solov2", GPU, {"optimizer": "sgd", "learning_rate": 0.01}),
        ("yolact", CPU, MUON),
        ("mask_rcnn", CPU, MUON | {"warmup_fraction": 0.02}),
        ("mask_queries", CPU, MUON),
        ("maskformer", CPU, MUON),
    ],
)
def test_optimisers(rules: str, machine: Machine, expected: dict[str, Any]) -> None:
    training = planned(rules, machine).run.training
    assert {key: getattr(training, key) for key in expected} == expected


@pytest.mark.parametrize("rules", ["mask_rcnn", "yolact", "solov2", "mask_queries", "maskformer"])
def test_encoders_of_networks_for_objects_are_as_narrow_as_those_of_u_nets(rules: str) -> None:
    for configuration in whole(rules, CPU).configurations.values():
        features = [stage.features for stage in configuration.model.network.levels]
        assert features == [min(80, 8 * 2**level) for level in range(len(features))]


@pytest.mark.parametrize(
    ("rules", "structure_mm3", "gib"),
    [("cpu", 1e3, 0.0625), ("cpu", 1e6, 0.5), ("cpu", 0, 0.5), ("flow", 1e3, 0.5)],
)
def test_u_nets_are_narrow_and_see_two_small_slices_a_step_and_small_patches_of_what_is_small(
    rules: str, structure_mm3: float, gib: float
) -> None:
    scans = with_things(made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50)))
    (organ,) = scans.classes
    organ = organ.model_copy(update={"component_volume_mm3_p95": structure_mm3})
    plan = plan_of(scans.model_copy(update={"classes": (organ,)}), rules, CPU)
    assert all(one.run.batch_size == 2 for one in plan.configurations.values())
    assert all(one.model.network.levels[0].features == 8 for one in plan.configurations.values())
    assert plan.expected["2d"].planned_gib == 0.0625
    assert plan.expected["3d_fullres"].planned_gib == gib


def test_one_class_of_large_structures_among_small_ones_keeps_the_large_patch() -> None:
    scans = made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50))
    (organ,) = scans.classes
    small, large = (
        organ.model_copy(update={"component_volume_mm3_p95": mm3}) for mm3 in (1e3, 1e6)
    )
    for classes, gib in (((small, small), 0.0625), ((small, large), 0.5), ((large, small), 0.5)):
        plan = plan_of(scans.model_copy(update={"classes": classes}), "cpu", CPU)
        assert plan.expected["3d_fullres"].planned_gib == gib


@pytest.mark.parametrize(
    ("rules", "score", "share"),
    [
        ("mask_queries", 0.5, 0.8),
        ("mask_rcnn", 0.3, 0.5),
        ("yolact", 0.3, 0.8),
        ("solov2", 0.3, 0.8),
    ],
)
def test_objects_are_kept_from_a_score_and_a_share_on(
    rules: str, score: float, share: float
) -> None:
    task: Any = planned(rules, CPU).model.task
    assert (task.object_score, task.kept_share) == (score, share)


@pytest.mark.parametrize("shape", [(64, 192, 192), (12, 320, 320)])
@pytest.mark.parametrize(
    ("rules", "small", "as_small"),
    [
        ("fcn", True, True),
        ("fcn", False, False),
        ("deeplab", True, True),
        ("flow", True, False),
        ("solov2", True, False),
    ],
)
def test_patches_of_other_networks_are_about_half_as_large_as_those_of_u_nets(
    shape: tuple[int, int, int], rules: str, small: bool, as_small: bool
) -> None:
    def voxels_of(rules: str, small: bool, machine: Machine = CPU) -> dict[str, int]:
        scans = with_things(made_up_fingerprint(Scans(shape, (1, 1, 1), count=50)))
        (organ,) = scans.classes
        organ = organ.model_copy(update={"component_volume_mm3_p95": 1e3 if small else 1e6})
        plan = plan_of(scans.model_copy(update={"classes": (organ,)}), rules, machine)
        configurations = plan.configurations.items()
        return {name: math.prod(one.model.patch_size_vox) for name, one in configurations}

    found, of_u_net = voxels_of(rules, small), voxels_of("cpu", as_small)
    for name in ("2d", "3d_fullres"):
        assert 0.4 < found[name] / of_u_net[name] < 0.9
    on_a_gpu = voxels_of(rules, small, GPU)
    assert all(on_a_gpu[name] > found[name] for name in ("2d", "3d_fullres"))


@pytest.mark.parametrize("rules", ["deeplab", "segformer"])
@pytest.mark.parametrize(
    ("machine", "vox", "finest"), [(CPU, 3900, 2), (CPU, 4100, 4), (GPU, 3900, 4)]
)
def test_finest_features_are_finer_where_structures_are_small(
    rules: str, machine: Machine, vox: float, finest: int
) -> None:
    fingerprint = made_up_fingerprint(Scans((64, 96, 96), (1, 1, 1), count=50))
    (organ,) = fingerprint.classes
    small = organ.model_copy(update={"component_volume_mm3_p95": vox})
    fingerprint = fingerprint.model_copy(update={"classes": (small,)})
    plan = plan_of(fingerprint, rules, machine, families=family_of)
    stages = plan.configurations["3d_fullres"].model.network.stages
    first = stages[: 2 if rules == "deeplab" else 1]  # a stem and pooling, or tokens
    assert stride_of(first) == (finest,) * 3
    slices = plan.configurations["2d"].model.network.stages
    assert stride_of(slices[: len(first)]) == (4, 4)
