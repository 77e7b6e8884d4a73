"""What holds of every plan, whatever the scans.

Covers: cost, plan.
"""

from math import prod
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import GIB, Machine
from autoseg.networks import family_of
from autoseg.planning.cost import convolution_elements
from autoseg.planning.facts import gather_facts
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.network_plan import unet_plan
from autoseg.planning.plan import Configuration, Plan
from autoseg.planning.rules import load_rule_set
from tests.planning.specified import (
    CPU,
    Scans,
    gpu,
    made_up_fingerprint,
    plan_of,
    untraced,
)

RULES = {name: load_rule_set(name) for name in ("nnunet", "default", "cpu")}
# nnU-Net rounds what fits to the nearest batch: 2.51 becomes 3, a fifth too much.
MOST_OF_MEMORY = {"nnunet": 1.2, "default": 1.0, "cpu": 1.2}
TARGET_SPACING: tuple[ConfigurationName, ...] = ("2d", "3d_fullres")

quickly = settings(max_examples=20, deadline=None, derandomize=True)
sizes = st.integers(8, 700)
millimetres = st.floats(0.2, 10)
memories_gib = st.floats(4, 80)


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    """Volumes or single slices, in up to three groups that differ in shape and spacing."""
    flat = draw(st.booleans())
    cases = draw(st.sampled_from([1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 80, 200, 500, 3000]))
    groups = draw(st.integers(1, min(3, cases)))
    scans = []
    for _ in range(groups):
        z, y, x = draw(sizes), draw(sizes), draw(sizes)
        across, down, along = draw(millimetres), draw(millimetres), draw(millimetres)
        if flat:
            z, across = 1, 999 * max(down, along)
        scans.append(Scans((z, y, x), (across, down, along), count=cases // groups))
    return made_up_fingerprint(*scans)


def plan_or_reject(fingerprint: Fingerprint, rules: str, machine: Machine) -> Plan:
    """The plan; scans that are refused for having too few voxels show nothing."""
    try:
        return plan_of(fingerprint, RULES[rules], machine, families=untraced)
    except AutosegError as error:
        assert "too few for a U-Net" in str(error)
        reject()


def assert_can_be_built(configuration: Configuration) -> None:
    model, dims = configuration.model, configuration.grid.spatial_dims
    stages = model.network.stages
    assert len(stages) > 1
    for index, stage in enumerate(stages):
        assert len(stage.stride) == len(stage.kernel_size) == dims
        assert set(stage.stride) <= ({1, 2} if index else {1})
        assert set(stage.kernel_size) <= {1, 3}
    divisors = family_of(model.network.kind).patch_divisor(model.network)
    assert len(model.patch_size_vox) == len(divisors) == dims
    assert all(p % d == 0 for p, d in zip(model.patch_size_vox, divisors, strict=True))
    assert configuration.run.batch_size >= 2


def share_of_memory(plan: Plan, fingerprint: Fingerprint, name: ConfigurationName) -> float:
    """The estimate for a batch as a share of what fits into the memory that was planned for.

    What the loss takes for each voxel and output counts as convolution outputs of as many bytes.
    """
    configuration = plan.configurations[name]
    model = configuration.model
    facts = gather_facts(fingerprint, plan.machine, name)
    patch, _ = RULES[plan.rule_set].decide("patch_size_vox", facts)
    elements = convolution_elements(
        unet_plan(model.network), model.patch_size_vox, facts.class_count
    )
    loss_gib = patch.loss_bytes * model.task.outputs * prod(model.patch_size_vox) / GIB
    elements += (
        loss_gib * patch.reference_batch * patch.reference_elements / (patch.reference_memory_gib)
    )
    needed = elements * configuration.run.batch_size / patch.reference_batch
    memory_gib = fact(plan, name, "patch_size_vox", "memory_gib")
    return float(needed / (patch.reference_elements * memory_gib / patch.reference_memory_gib))


def fact(plan: Plan, name: ConfigurationName, decision: str, wanted: str) -> Any:
    """What a decision looked at."""
    key = (decision, name)
    return next(d.facts[wanted] for d in plan.decisions if (d.name, d.configuration) == key)


def limited_by_cases(plan: Plan, name: ConfigurationName) -> bool:
    """Whether more would fit into memory than 5 % of the dataset's voxels."""
    allowed = fact(plan, name, "batch_size", "dataset_share_allows")
    return bool(allowed < fact(plan, name, "batch_size", "fits_into_memory"))


@pytest.mark.parametrize("rules", RULES)
@quickly
@given(fingerprint=fingerprints(), memory_gib=memories_gib)
def test_any_plan_can_be_built_fits_into_memory_and_is_made_again_alike(
    rules: str, fingerprint: Fingerprint, memory_gib: float
) -> None:
    machine = CPU if rules == "cpu" else gpu(memory_gib)
    plan = plan_or_reject(fingerprint, rules, machine)
    for name, configuration in plan.configurations.items():
        assert_can_be_built(configuration)
        if name != "3d_cascade_fullres":  # which is 3d_fullres once more
            share = share_of_memory(plan, fingerprint, name)
            assert share <= MOST_OF_MEMORY[rules] * (1 + 1e-9)
    assert plan_or_reject(fingerprint, rules, machine) == plan


@pytest.mark.parametrize("rules", ["nnunet", "default"])
@quickly
@given(fingerprint=fingerprints(), memory_gib=st.tuples(memories_gib, memories_gib))
def test_more_memory_never_gives_a_smaller_patch_and_by_default_never_less_in_all(
    rules: str, fingerprint: Fingerprint, memory_gib: tuple[float, float]
) -> None:
    """nnU-Net's patch times batch may fall: a batch of 2.6 becomes 3, then 2 of a larger patch.

    So may that of `default` where 5 % of the dataset limit the batch to whole samples. The spacing
    of low resolution depends on the memory, so its patches cannot be compared.
    """
    less, more = (plan_or_reject(fingerprint, rules, gpu(gb)) for gb in sorted(memory_gib))
    for name in TARGET_SPACING:
        if name in less.configurations:
            small, large = less.configurations[name], more.configurations[name]
            before, after = prod(small.model.patch_size_vox), prod(large.model.patch_size_vox)
            assert after >= before
            limited = limited_by_cases(less, name) or limited_by_cases(more, name)
            if rules == "default" and not limited:
                assert after * large.run.batch_size >= before * small.run.batch_size
