"""What every kind of network promises, whatever it is.

Covers: deeplab_family, fcn_family, mednext_family, segformer_family, traced_search.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from autoseg.machine import Machine
from autoseg.networks import FAMILIES, family_of
from autoseg.networks.family import all_outputs
from autoseg.networks.tracing import trace
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.cost import training_memory_gib
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan
from autoseg.planning.network_plan import BUILT_IN_NETWORKS
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import load_rule_set
from tests.networks.every_network import PATCHES, RULES, SMALL
from tests.planning.specified import CPU, Scans, gpu, made_up_fingerprint, with_things

EVERY = pytest.mark.parametrize("kind", SMALL)
BOTH = pytest.mark.parametrize("dims", [2, 3])
CHANNELS, OUTPUTS = 2, 5
LONG_TRACED = [("mask_queries", gpu(11))]  # 15 layers of attention
NEED_THINGS = ("mask_rcnn", "solov2", "yolact")
PLANNED = [
    pytest.param(
        kind,
        machine,
        id=f"{machine.device}-{kind}",
        marks=pytest.mark.slow if (kind, machine) in LONG_TRACED else (),
    )
    for kind in SMALL
    for machine in (CPU, gpu(11))
]


def model_of(kind: str, dims: int) -> ModelPlan:
    return ModelPlan(
        patch_size_vox=PATCHES[dims],
        inputs=(ScanInput(channels=("a", "b")),),
        network=SMALL[kind](dims),
        task=SemanticPlan(classes=OUTPUTS),
    )


def test_every_network_is_tried_here() -> None:
    assert {*SMALL, "plain_unet", "residual_unet"} == set(BUILT_IN_NETWORKS) == set(FAMILIES)
    assert set(RULES) == set(SMALL)


@EVERY
@BOTH
def test_logits_are_of_the_patchs_size_and_every_parameter_learns(kind: str, dims: int) -> None:
    torch.manual_seed(0)
    model = model_of(kind, dims)
    network = family_of(kind).build(model.network, CHANNELS, OUTPUTS)
    with torch.no_grad():
        logits = network(torch.randn(2, CHANNELS, *PATCHES[dims]))
    assert logits.shape == (2, OUTPUTS, *PATCHES[dims])
    for parameter in network.parameters():  # what begins at 0 keeps gradients from what is before
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    image = torch.randn(3, CHANNELS, *PATCHES[dims])
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d | torch.nn.Dropout3d):
            module.p = 0.0  # else some features of these few learn nothing
    outputs = tree_leaves(all_outputs(network, image, model.network))
    total = sum(output.square().sum() for output in outputs)
    assert isinstance(total, torch.Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    learning = {n: p.grad for n, p in network.named_parameters() if p.requires_grad}
    assert [n for n, gradient in learning.items() if gradient is None] == []
    assert all(g is not None and g.isfinite().all() for g in learning.values())


@EVERY
@BOTH
def test_first_and_last_layers_are_known_and_levels_too(kind: str, dims: int) -> None:
    model, family = model_of(kind, dims), family_of(kind)
    network = family.build(model.network, CHANNELS, OUTPUTS)
    assert family.sees_inputs is not None and family.gives_outputs is not None
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    first = [shape for name, shape in shapes.items() if family.sees_inputs(model.network, name)]
    last = [shape for name, shape in shapes.items() if family.gives_outputs(model.network, name)]
    assert [shape[1] for shape in first] == [CHANNELS]
    assert {shape[0] for shape in last} == {OUTPUTS}
    levels = [family.levels_from_output(model.network, name) for name in shapes]
    assert None not in levels and 0 in levels and max(level or 0 for level in levels) > 1


@EVERY
@BOTH
def test_costs_are_traced_without_values(kind: str, dims: int) -> None:
    model = model_of(kind, dims)
    cost = trace(family_of(kind).build, model)
    network = family_of(kind).build(model.network, CHANNELS, OUTPUTS)
    assert cost.weights == sum(p.numel() for p in network.parameters())
    assert cost.multiply_adds > cost.elements > 0 and cost.kept_bytes > 0


@EVERY
@BOTH
def test_patches_of_one_divisor_are_large_enough(kind: str, dims: int) -> None:
    model, family = model_of(kind, dims), family_of(kind)
    divisor = family.patch_divisor(model.network)
    patch = tuple(2 * size for size in divisor)
    network = family.build(model.network, CHANNELS, OUTPUTS).eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, CHANNELS, *patch))
    assert logits.shape == (1, OUTPUTS, *patch)


@pytest.mark.parametrize(("kind", "machine"), PLANNED)
def test_rules_fill_the_memory_that_there_is(kind: str, machine: Machine) -> None:
    fingerprint = made_up_fingerprint(Scans((12, 40, 40), (3, 1, 1), count=50))
    if kind in NEED_THINGS:
        fingerprint = with_things(fingerprint)
    inputs = PlanningInputs(fingerprint, load_rule_set(RULES[kind]), machine, family_of)
    plan = make_plan(inputs)
    for name, configuration in plan.configurations.items():
        network, model = configuration.model.network, configuration.model
        assert network.kind == kind
        divisor = family_of(kind).patch_divisor(network)
        assert all(size % d == 0 for size, d in zip(model.patch_size_vox, divisor, strict=True))
        needed = training_memory_gib(configuration, family_of(kind).cost(model), machine.bf16)
        planned = plan.expected[name].planned_gib
        assert planned is not None and needed < 1.15 * planned
    reasons = {decision.name: decision for decision in plan.decisions}
    assert "2" in reasons["network"].source  # a paper and its year


@EVERY
def test_plans_read_as_they_were_written(kind: str) -> None:
    model = model_of(kind, 3)
    assert ModelPlan.model_validate_json(model.model_dump_json()) == model
