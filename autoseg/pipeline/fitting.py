"""Making plans fit the machine: by memory that is measured, by the hours that there are."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.machine import ANY_GPU, Machine
from autoseg.planning.configuration_planner import PlanningInputs
from autoseg.planning.expectation import Speed, explained, timed
from autoseg.planning.model_plan import ConfigurationName
from autoseg.planning.plan import Configuration, Decision, Expectation, Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.run_plan import RunPlan
from autoseg.quantities import duration_text, size_text
from autoseg.records import Record

if TYPE_CHECKING:
    from autoseg.device import Device
    from autoseg.training.measure import Measurement

MEMORY_USED = {"gpu": 0.95, "cpu": 0.75}  # of what is there; the rest is for data, other programs
ATTEMPTS = 8
EASILY = 0.5  # of the usable memory: below, estimates are not doubted
LESS = 0.6  # of the memory planned for, where it was too much by nobody knows how much
NEXT_SMALLER = 0.5  # of the memory planned for
STEPS_DOWN = (1.0, 0.75, 0.5, 0.35, 0.25, 0.18, 0.12)  # of it, where hours are few


class FoldRun(Record):
    """What one fold trains, and what of its plan had to be changed for the machine that it is on.

    The plan itself stays as it is, for other folds may be trained elsewhere.
    """

    configuration: Configuration
    changes: tuple[str, ...] = ()


def plan_within(
    inputs: PlanningInputs, name: str | None, hours: float | None
) -> tuple[Plan, PlanningInputs]:
    """A plan whose recommended configuration trains a fold in so many hours, as far as is expected,
    and what it was made from.

    Without hours the rules alone decide. Where not even the smallest plan is quick enough, that one
    is taken. Raises AutosegError where the rules leave no memory for any.
    """
    made: tuple[Plan, PlanningInputs] | None = None
    for factor in STEPS_DOWN:
        smaller = replace(inputs, memory_factor=inputs.memory_factor * factor)
        try:
            plan = make_plan(smaller, name)
        except AutosegError:  # too little memory for any patch: the one before is the smallest
            if made is None:
                raise
            return made
        made = plan, smaller
        if hours is None or plan.expected[plan.recommended].fold_hours <= hours:
            break
    assert made is not None
    return made


def beside_smaller(plan: Plan, inputs: PlanningInputs) -> Plan:
    """The plan, which says what the next smaller one would take."""
    name = plan.recommended
    factor = inputs.memory_factor * NEXT_SMALLER
    try:
        smaller = make_plan(replace(inputs, memory_factor=factor))
    except AutosegError:  # too little memory for any patch
        return plan
    if smaller.configurations.get(name) in (None, plan.configurations[name]):
        return plan
    patch = smaller.configurations[name].model.patch_size_vox
    expected = smaller.expected[name]
    if expected.memory_gib >= plan.expected[name].memory_gib:
        return plan
    minutes = expected.epoch_minutes * smaller.configurations[name].run.training.epochs
    says = (
        f"with half the memory, patches of {' x '.join(map(str, patch))}, it would be "
        f"{size_text(expected.memory_gib)} and {duration_text(minutes)} a fold"
    )
    told = plan.expected[name].model_copy(update={"smaller": says})
    return _with_expectation(plan, name, told, inputs.speed)


def measured_plan(
    plan: Plan, inputs: PlanningInputs, device: "Device", hours: float | None = None
) -> Plan:
    """Run training steps of the recommended configuration, and plan smaller until it fits into
    memory, and into the hours that a fold may take.

    What was measured replaces the estimate. Raises AutosegError when nothing fits.
    """
    usable_gib = usable_memory_gib(plan.machine)
    factor = inputs.memory_factor
    for _ in range(ATTEMPTS):
        name = plan.recommended
        found = measure(plan.configurations[name], plan.labels, device)
        if fits(found, usable_gib):
            measured = with_measurement(plan, name, found)
            if hours is None or measured.expected[name].fold_hours <= hours:
                return measured
        factor = _smaller_factor(plan.expected[name], factor, found, usable_gib)
        tried = plan.configurations[name]
        plan = make_plan(replace(inputs, memory_factor=factor), plan.name)
        while plan.configurations.get(name) == tried:  # by the estimate that rules compare with
            factor *= LESS
            plan = make_plan(replace(inputs, memory_factor=factor), plan.name)
    raise AutosegError(
        f"Training does not fit into {usable_gib:.1f} GiB, or the hours that there are: the last "
        f"patch tried was of {plan.configurations[plan.recommended].model.patch_size_vox} voxels. "
        "Close other programs, or plan for another machine with --for gpu:GB."
    )


def _smaller_factor(
    expected: Expectation, factor: float, found: "Measurement", usable_gib: float
) -> float:
    """A share of the memory to plan for that is below what this plan was estimated to need, which
    may be far less than what it was allowed."""
    allowed_gib = (expected.planned_gib or expected.memory_gib) / factor
    factor = min(factor, expected.memory_gib / allowed_gib)
    peak_gib = found.peak_memory_gib
    return factor * (LESS if peak_gib is None else min(LESS, 0.95 * usable_gib / peak_gib))


def measured_as_it_is(plan: Plan, device: "Device") -> Plan:
    """The plan with smaller batches, more of them to a step, where it does not fit when measured.

    The patch stays: it was given. Raises AutosegError when not even single patches fit.
    """
    name = plan.recommended
    usable_gib = usable_memory_gib(plan.machine)
    run, found = _fitted(plan.configurations[name], plan.labels, Place(device), usable_gib)
    decisions = [
        Decision(
            name="batch_size",
            configuration=name,
            value=run.configuration.run.batch_size,
            rule_id="batch_size.measured",
            because=change,
            facts={},
            source="--measure",
        )
        for change in run.changes
    ]
    changed = plan.model_copy(
        update={
            "configurations": plan.configurations | {name: run.configuration},
            "decisions": (*plan.decisions, *decisions),
        }
    )
    return with_measurement(changed, name, found)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is trained: a device like this in each of so many processes, of which so many
    share its memory."""

    device: "Device"
    processes: int = 1
    sharing: int = 1

    def share(self, batch_size: int) -> int:
        """The most samples of a batch that one process has."""
        return -(-batch_size // self.processes)


def fitted_run(
    configuration: Configuration, labels: LabelScheme, expected: Expectation, place: Place
) -> FoldRun:
    """What this machine trains of a planned configuration, each process its share.

    Steps stay of as many patches, in smaller batches where memory is short; what is surely small
    enough is not measured. Raises AutosegError when not even the smallest shares fit.
    """
    from autoseg.device import machine_of

    usable_gib = usable_memory_gib(machine_of(place.device)) / place.sharing
    batch_size = configuration.run.batch_size
    if expected.memory_gib * place.share(batch_size) / batch_size < EASILY * usable_gib:
        return FoldRun(configuration=configuration)
    return _fitted(configuration, labels, place, usable_gib)[0]


def _fitted(
    configuration: Configuration, labels: LabelScheme, place: Place, usable_gib: float
) -> "tuple[FoldRun, Measurement]":
    planned = configuration.run
    sizes = [
        size
        for size in range(planned.batch_size, place.processes - 1, -1)
        if planned.step_samples % size == 0
    ]
    for batch_size in sizes:
        tried = _in_batches_of(configuration, batch_size)
        found = measure(_in_batches_of(tried, place.share(batch_size)), labels, place.device)
        if fits(found, usable_gib):
            same = batch_size == planned.batch_size
            changes = () if same else (_change(configuration, tried, labels),)
            return FoldRun(configuration=tried, changes=changes), found
    smallest = place.share(sizes[-1])
    raise AutosegError(
        f"Not even {smallest} patches of "
        f"{' x '.join(map(str, configuration.model.patch_size_vox))} voxels at once fit into "
        f"{usable_gib:.1f} GiB. `autoseg plan DATASET --measure` finds a smaller patch."
    )


def _in_batches_of(configuration: Configuration, batch_size: int) -> Configuration:
    """The same steps of the optimiser in batches of another size, which divides them."""
    run = configuration.run
    accumulated = max(1, run.step_samples // batch_size)
    training = run.training.model_copy(update={"accumulated_batches": accumulated})
    smaller = run.model_copy(update={"batch_size": batch_size, "training": training})
    return configuration.model_copy(update={"run": smaller})


def _change(planned: Configuration, tried: Configuration, labels: LabelScheme) -> str:
    run, now = planned.run, tried.run
    change = (
        f"batches of {now.batch_size}, {now.training.accumulated_batches} to a step: those of "
        f"{run.batch_size} that were planned did not fit into memory when measured"
    )
    differs = caveats(run, labels)
    return f"{change}; {differs}" if differs else change


def caveats(run: RunPlan, labels: LabelScheme) -> str:
    """What of a loss is of each batch alone, where several make a step; empty if nothing is."""
    of_each_batch = [
        words
        for words, holds in (
            ("overlaps are summed", run.loss.batch_dice),
            ("voxels that somebody annotated are counted", labels.ignore is not None),
            ("the hardest voxels are chosen", run.loss.kind == "topk_dice"),
        )
        if holds
    ]
    return f"{' and '.join(of_each_batch)} in each batch alone" if of_each_batch else ""


def measure(configuration: Configuration, labels: LabelScheme, device: "Device") -> "Measurement":
    """Peak memory in GiB and seconds of a training step on a device."""
    from autoseg.training.measure import measure_training  # torch takes seconds to import

    return measure_training(configuration, labels, device)


def fits(found: "Measurement", usable_gib: float) -> bool:
    return found.peak_memory_gib is not None and found.peak_memory_gib <= usable_gib


def with_measurement(plan: Plan, name: ConfigurationName, found: "Measurement") -> Plan:
    """The plan, with a configuration's expectation replaced by what was measured."""
    assert found.peak_memory_gib is not None and found.step_seconds is not None
    configuration, expected = plan.configurations[name], plan.expected[name]
    steps = configuration.run.training.accumulated_batches
    measured = timed(expected, configuration, found.step_seconds * steps).model_copy(
        update={"memory_gib": round(found.peak_memory_gib, 2), "basis": "measured"}
    )
    return _with_expectation(plan, name, measured)


def _with_expectation(
    plan: Plan, name: ConfigurationName, expected: Expectation, speed: Speed | None = None
) -> Plan:
    explains = explained(expected, plan.configurations[name], speed)
    decisions = tuple(
        explains if (d.name, d.configuration) == (explains.name, name) else d
        for d in plan.decisions
    )
    return plan.model_copy(
        update={"expected": plan.expected | {name: expected}, "decisions": decisions}
    )


def usable_memory_gib(machine: Machine) -> float:
    """What training may take of this machine's memory. Raises AutosegError for another machine."""
    if machine.gpu_name == ANY_GPU:
        raise AutosegError("--measure runs on this machine, so it cannot be used with --for gpu.")
    memory_gib = machine.memory_gib if machine.gpu_name is None else machine.gpu_planned_gib
    return memory_gib * MEMORY_USED[machine.device]


def memory_advice(
    error: Exception, configuration: Configuration, labels: LabelScheme
) -> str | None:
    """What to change where memory did not suffice; None for any other error."""
    from autoseg.device import ran_out_of_memory

    if not ran_out_of_memory(error):
        return None
    run, patch = configuration.run, configuration.model.patch_size_vox
    advice = "autoseg plan DATASET --name smaller --measure, which finds a patch that fits"
    if run.batch_size > 1:
        half = next(n for n in range(run.batch_size // 2, 0, -1) if run.step_samples % n == 0)
        differs = caveats(run, labels)
        learns = f"learns the same, but {differs}" if differs else "learns the same"
        advice = (
            f"autoseg plan DATASET --name smaller --set batch_size={half} "
            f"training.accumulated_batches={run.step_samples // half}, which takes about half of "
            f"it and {learns}; or {advice}"
        )
    return (
        f"Training {run.batch_size} patches of {' x '.join(map(str, patch))} voxels does not fit "
        f"into memory. Close other programs, or use {advice}."
    )
