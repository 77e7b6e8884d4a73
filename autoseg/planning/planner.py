"""From a fingerprint to a plan: asks the rules for settings, runs the searches, records reasons."""

from dataclasses import dataclass, replace

import numpy as np

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.planning.anchor_search import conclude_anchors
from autoseg.planning.choices import (
    MedianGrid,
    choose_augmentation,
    choose_batch_size,
    choose_grid,
    choose_loss,
    choose_memory_gib,
    choose_mirror_axes,
    choose_normalization,
)
from autoseg.planning.decision_log import DecisionLog
from autoseg.planning.decisions import (
    INFERENCE,
    LOWRES_SPACING,
    NETWORK,
    PATCH_SIZE,
    POOLING,
    RECOMMENDED,
    RESAMPLING,
    TARGET_SPACING,
    TRAINING,
)
from autoseg.planning.expectation import assumed_rate, expectation, explained
from autoseg.planning.facts import gather_facts, small_thing_mm
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.model_plan import (
    ConfigurationName,
    InputPlan,
    ModelPlan,
    ScanInput,
    StageMaskInput,
    TaskPlan,
)
from autoseg.planning.network_plan import BoxNetworkPlan
from autoseg.planning.plan import Configuration, Decision, Expectation, InferencePlan, Plan
from autoseg.planning.rules import RuleSet
from autoseg.planning.run_plan import RunPlan
from autoseg.planning.search import Families, FoundPatch, PatchSearch, find_lowres, find_patch
from autoseg.planning.task_choice import choose_task, expected_objects


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """What plans are made from: the data, the rules, a machine, and the networks that there are.

    `memory_factor` corrects the memory to plan for, where measuring has shown that the estimate is
    off, or time is short. `rate` is what the machine was measured to compute, in multiply-adds a
    second. With `hours_given` the user said how long a fold may take.
    """

    fingerprint: Fingerprint
    rules: RuleSet
    machine: Machine
    families: Families
    memory_factor: float = 1.0
    rate: float | None = None
    hours_given: bool = False

    @property
    def multiply_adds_per_second(self) -> float:
        return self.rate or assumed_rate(self.machine)

    def log_for(self, configuration: ConfigurationName) -> DecisionLog:
        """A log of what the rules decide for a configuration."""
        facts = gather_facts(self.fingerprint, self.machine, configuration)
        return DecisionLog(self.rules, facts.with_known(hours_given=self.hours_given))


@dataclass(frozen=True, slots=True)
class _Planned:
    """A configuration, its search, and that for a coarser one where it would see more context."""

    configuration: Configuration
    search: PatchSearch
    lowres: PatchSearch | None


def make_plan(inputs: PlanningInputs, name: str | None = None) -> Plan:
    """Decide everything about a dataset for a machine, with a reason for each decision.

    Raises AutosegError when the data cannot be planned for: too few voxels, or too little memory.
    """
    configurations: dict[ConfigurationName, Configuration] = {}
    expected: dict[ConfigurationName, Expectation] = {}
    decisions = [_machine_decision(inputs.machine)]

    def add(configuration: ConfigurationName, coarser: PatchSearch | None) -> PatchSearch | None:
        log = inputs.log_for(configuration)
        planned = _plan_configuration(inputs, log, coarser)
        configurations[configuration] = planned.configuration
        expected[configuration] = expect(inputs, planned.configuration, planned.search.memory_gib)
        decisions.extend(log.decisions)
        return planned.lowres

    add("2d", None)
    if _has_depth(inputs):
        coarser = add("3d_fullres", None)
        if coarser is not None:
            add("3d_lowres", coarser)
            cascade = _second_stage(configurations["3d_fullres"], inputs.fingerprint)
            configurations[cascade.name] = cascade
            expected[cascade.name] = expect(inputs, cascade, expected["3d_fullres"].planned_gib)
            decisions += [
                decision.model_copy(update={"configuration": cascade.name})
                for decision in decisions
                if decision.configuration == "3d_fullres"
            ]
    recommended, decision = _recommend(configurations, inputs)
    rate = inputs.multiply_adds_per_second
    return Plan(
        name=name or inputs.rules.name,
        rule_set=inputs.rules.name,
        machine=inputs.machine,
        labels=inputs.fingerprint.labels,
        channel_names=inputs.fingerprint.channel_names,
        configurations=configurations,
        recommended=recommended,
        expected=expected,
        decisions=(
            *decisions,
            *(explained(expected[n], c, rate) for n, c in configurations.items()),
            decision,
        ),
    )


def expect(
    inputs: PlanningInputs, configuration: Configuration, planned_gib: float | None
) -> Expectation:
    """What a configuration will take on the machine that is planned for."""
    family = inputs.families(configuration.model.network.kind)
    return expectation(
        configuration,
        inputs.fingerprint,
        family.cost(configuration.model),
        inputs.multiply_adds_per_second,
        inputs.machine.bf16,
        planned_gib,
    )


def expected_anew(plan: Plan, inputs: PlanningInputs) -> Plan:
    """The plan with estimates of what it takes, after values were set by hand."""
    expected = {
        name: expect(inputs, configuration, plan.expected[name].planned_gib)
        for name, configuration in plan.configurations.items()
    }
    rate = inputs.multiply_adds_per_second
    explains = [explained(expected[n], c, rate) for n, c in plan.configurations.items()]
    others = [d for d in plan.decisions if d.name != explains[0].name]
    return plan.model_copy(update={"expected": expected, "decisions": (*others, *explains)})


def _second_stage(full: Configuration, fingerprint: Fingerprint) -> Configuration:
    """A cascade's second stage: full resolution, which sees what the low one found."""
    mask = StageMaskInput(stage="3d_lowres", classes=fingerprint.labels.names[1:])
    inputs: tuple[InputPlan, ...] = (*full.model.inputs, mask)
    model = full.model.model_copy(update={"inputs": inputs})
    return full.model_copy(update={"name": "3d_cascade_fullres", "model": model})


def _has_depth(inputs: PlanningInputs) -> bool:
    """Whether the median scan is a volume on the plan's grid, and not a single slice."""
    return choose_grid(inputs.fingerprint, inputs.log_for("3d_fullres")).median_vox[0] != 1


def _recommend(
    configurations: dict[ConfigurationName, Configuration], inputs: PlanningInputs
) -> tuple[ConfigurationName, Decision]:
    """The first configuration of the rules' preference that there is."""
    log = inputs.log_for(list(configurations)[-1])
    preference = log.settings(RECOMMENDED)
    chosen = next((name for name in preference if name in configurations), None)
    decision = log.decisions[-1]
    if chosen is None:
        raise AutosegError(
            f"Rule {decision.rule_id} recommends {', '.join(preference)}, but this dataset is "
            f"planned as {', '.join(configurations)}. Add one of these to the rule."
        )
    return chosen, decision.model_copy(update={"configuration": None, "value": chosen})


def _search_of(
    grid: MedianGrid, inputs: PlanningInputs, log: DecisionLog, coarser: PatchSearch | None
) -> PatchSearch:
    """What to search a patch with: at the grid's spacing, or at that of a coarser search."""
    dims = 2 if log.facts.configuration == "2d" else 3
    memory_gib = choose_memory_gib(log, inputs.memory_factor)
    patch, network = log.settings(PATCH_SIZE), log.settings(NETWORK)
    search = PatchSearch(
        spacing_mm=grid.target_mm[-dims:],
        median_shape_vox=grid.median_vox[-dims:],
        median_voxels=float(np.prod(grid.median_vox)),
        class_count=log.facts.class_count,
        channels=log.facts.channel_count,
        outputs=inputs.fingerprint.labels.output_count,
        memory_gib=memory_gib,
        patch=patch,
        network=network,
        pooling=log.settings(POOLING),
        family=inputs.families(network.kind),
        bf16=inputs.machine.bf16,
        objects=expected_objects(inputs.fingerprint, grid),
    )
    if coarser is not None:
        search = replace(
            search,
            spacing_mm=coarser.spacing_mm,
            median_shape_vox=coarser.median_shape_vox,
            median_voxels=coarser.median_voxels,
        )
    log.conclude(TARGET_SPACING, search.spacing_mm)
    return search


def _plan_configuration(
    inputs: PlanningInputs, log: DecisionLog, coarser: PatchSearch | None
) -> _Planned:
    fingerprint, name = inputs.fingerprint, log.facts.configuration
    grid = choose_grid(fingerprint, log)
    search = _search_of(grid, inputs, log, coarser)
    patch = find_patch(search)
    _conclude_network(log, search, patch)
    fraction = float(np.prod(patch.size_vox) / np.prod(search.median_shape_vox))
    lowres = _lowres(search, patch, fraction, log) if name == "3d_fullres" else None
    mirror_axes = choose_mirror_axes(grid, log)
    batch_size = choose_batch_size(search, patch, len(fingerprint.cases), log)
    inference = log.settings(INFERENCE)
    configuration = Configuration(
        name=name,
        grid=GridPlan(
            orientation=grid.orientation,
            axis_order=grid.axis_order,
            target_spacing_mm=search.spacing_mm,
            normalization=choose_normalization(fingerprint, log),
            resampling=log.settings(RESAMPLING),
        ),
        model=_model(fingerprint, patch, choose_task(fingerprint, search, patch.network, log)),
        run=RunPlan(
            batch_size=batch_size,
            loss=choose_loss(fingerprint, log, fraction, lowres_helps=lowres is not None),
            augmentation=choose_augmentation(patch.size_vox, mirror_axes, log),
            training=log.settings(TRAINING),
        ),
        inference=InferencePlan(
            step_fraction=inference.step_fraction,
            gaussian_sigma_fraction=inference.gaussian_sigma_fraction,
            mirror_axes=mirror_axes,
            median_shape_vox=search.median_shape_vox,
            smallest_object_mm=round(inference.smallest_object * small_thing_mm(fingerprint), 4),
        ),
    )
    return _Planned(configuration, search, lowres)


def _model(fingerprint: Fingerprint, patch: FoundPatch, task: TaskPlan) -> ModelPlan:
    return ModelPlan(
        patch_size_vox=patch.size_vox,
        inputs=(ScanInput(channels=fingerprint.channel_names),),
        network=patch.network,
        task=task,
    )


def _lowres(
    search: PatchSearch, patch: FoundPatch, fraction: float, log: DecisionLog
) -> PatchSearch | None:
    settings = log.settings(LOWRES_SPACING, patch_fraction_of_median_image=fraction)
    coarser = find_lowres(search, patch.size_vox, settings)
    log.conclude(LOWRES_SPACING, None if coarser is None else coarser.spacing_mm)
    return coarser


def _conclude_network(log: DecisionLog, search: PatchSearch, patch: FoundPatch) -> None:
    levels = patch.network.levels
    log.conclude(
        PATCH_SIZE,
        patch.size_vox,
        median_shape_vox=search.median_shape_vox,
        memory_gib=search.memory_gib,
        estimated_elements=round(patch.elements),
        allowed_elements=round(search.reference_elements),
    )
    if not patch.shrunk:
        log.add_reason(PATCH_SIZE, "here the median scan fits as a whole")
    log.conclude(NETWORK, patch.network.kind, stages=len(levels))
    log.conclude_also("features", [level.features for level in levels], of=NETWORK)
    if isinstance(patch.network, BoxNetworkPlan):
        conclude_anchors(log, patch.network, search.objects.sizes_vox(search.spacing_mm))
    log.conclude(
        POOLING,
        [level.stride for level in levels],
        target_spacing_mm=search.spacing_mm,
        patch_size_vox=patch.size_vox,
    )
    log.conclude_also("kernel_sizes", [level.kernel_size for level in levels], of=POOLING)


def _machine_decision(machine: Machine) -> Decision:
    gpu = "no NVIDIA GPU" if machine.gpu_name is None else f"a GPU ({machine.gpu_memory_in_words})"
    return Decision(
        name="machine",
        configuration=None,
        value=machine.device,
        rule_id="machine.detected_or_given",
        because=f"planned for a machine with {gpu}, {machine.cores} cores, "
        f"{machine.memory_gib:g} GiB of memory",
        facts=machine.model_dump(mode="json"),
        source="this computer, or --for",
    )
