"""From a fingerprint to a plan: every configuration that there is, and which to use first."""

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import Machine
from autoseg.planning.choices import choose_grid
from autoseg.planning.configuration_planner import PlanningInputs, plan_configuration
from autoseg.planning.decisions import RECOMMENDED
from autoseg.planning.expectation import expectation, explained
from autoseg.planning.model_plan import ConfigurationName, InputPlan, StageMaskInput
from autoseg.planning.plan import Configuration, Decision, Expectation, Plan
from autoseg.planning.search import PatchSearch


def make_plan(inputs: PlanningInputs, name: str | None = None) -> Plan:
    """Decide everything about a dataset for a machine, with a reason for each decision.

    Raises AutosegError when the data cannot be planned for: too few voxels, or too little memory.
    """
    planned = _Planning(inputs)
    planned.add("2d", None)
    if _has_depth(inputs):
        coarser = planned.add("3d_fullres", None)
        if coarser is not None:
            planned.add("3d_lowres", coarser)
            planned.add_second_stage()
    configurations = planned.configurations
    recommended, decision = _recommend(configurations, inputs)
    speed = inputs.speed
    explains = [explained(planned.expected[n], c, speed) for n, c in configurations.items()]
    return Plan(
        name=name or inputs.rules.name,
        rule_set=inputs.rules.name,
        machine=inputs.machine,
        labels=inputs.fingerprint.labels,
        channel_names=inputs.fingerprint.channel_names,
        configurations=configurations,
        recommended=recommended,
        expected=planned.expected,
        decisions=(*planned.decisions, *explains, decision),
    )


class _Planning:
    """Configurations, one after the other, with what they will take and why they are so."""

    def __init__(self, inputs: PlanningInputs) -> None:
        self.inputs = inputs
        self.configurations: dict[ConfigurationName, Configuration] = {}
        self.expected: dict[ConfigurationName, Expectation] = {}
        self.decisions = [_machine_decision(inputs.machine)]

    def add(self, name: ConfigurationName, coarser: PatchSearch | None) -> PatchSearch | None:
        """Plan a configuration; the search of a coarser one, if it would see more context."""
        log = self.inputs.log_for(name)
        planned = plan_configuration(self.inputs, log, coarser)
        self._keep(planned.configuration, planned.search.memory_gib)
        self.decisions.extend(log.decisions)
        return planned.lowres

    def add_second_stage(self) -> None:
        """That of a cascade, which is decided as the full resolution is."""
        full = self.configurations["3d_fullres"]
        second = _second_stage(full, self.inputs.fingerprint)
        self._keep(second, self.expected[full.name].planned_gib)
        self.decisions += [
            decision.model_copy(update={"configuration": second.name})
            for decision in self.decisions
            if decision.configuration == full.name
        ]

    def _keep(self, configuration: Configuration, planned_gib: float | None) -> None:
        self.configurations[configuration.name] = configuration
        self.expected[configuration.name] = expect(self.inputs, configuration, planned_gib)


def expect(
    inputs: PlanningInputs, configuration: Configuration, planned_gib: float | None
) -> Expectation:
    """What a configuration will take on the machine that is planned for."""
    family = inputs.families(configuration.model.network.kind)
    return expectation(
        configuration,
        inputs.fingerprint,
        family.cost(configuration.model),
        inputs.speed,
        inputs.machine.bf16,
        planned_gib,
    )


def expected_anew(plan: Plan, inputs: PlanningInputs) -> Plan:
    """The plan with estimates of what it takes, after values were set by hand."""
    expected = {
        name: expect(inputs, configuration, plan.expected[name].planned_gib)
        for name, configuration in plan.configurations.items()
    }
    speed = inputs.speed
    explains = [explained(expected[n], c, speed) for n, c in plan.configurations.items()]
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
