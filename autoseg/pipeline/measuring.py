"""Measuring a plan on the machine that it is for, and correcting what does not fit."""

from autoseg.errors import AutosegError
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import ANY_GPU, Machine
from autoseg.planning.plan import Configuration, ConfigurationName, Decision, Plan
from autoseg.planning.planner import make_plan
from autoseg.planning.rules import RuleSet

USABLE = {"gpu": 0.95, "cpu": 0.75}  # of the memory; the rest is for data and other programs
TORCH_DEVICES = {"gpu": "cuda", "cpu": "cpu"}
ATTEMPTS = 8
SMALLEST_BATCH = 2
EASILY = 0.5  # of the usable memory: below, estimates are not doubted
MEASURED = "expectation.measured"


def measured_plan(plan: Plan, fingerprint: Fingerprint, rules: RuleSet, name: str | None) -> Plan:
    """Run training steps of the recommended configuration, and plan smaller until it fits.

    What was measured replaces the estimate among the plan's decisions. Raises AutosegError when the
    plan is for another machine, or nothing fits.
    """
    usable_gib = usable_memory_gib(plan.machine)
    factor = 1.0
    for _ in range(ATTEMPTS):
        peak_gib, seconds = measure(plan.configurations[plan.recommended], plan)
        if peak_gib is not None and seconds is not None and peak_gib <= usable_gib:
            return with_measurement(plan, plan.recommended, peak_gib, seconds)
        # Less than this plan was estimated to need, which may be far less than what it was allowed.
        needed_gib = _decision(plan, "expectation", plan.recommended).value["memory_gib"]
        allowed_gib = _decision(plan, "memory_gib", plan.recommended).value / factor
        factor = min(factor, needed_gib / allowed_gib)
        factor *= 0.6 if peak_gib is None else 0.95 * usable_gib / peak_gib
        plan = make_plan(fingerprint, rules, plan.machine, name, factor)
    raise AutosegError(
        f"Training does not fit into {usable_gib:.1f} GiB: the last patch tried was of "
        f"{plan.configurations[plan.recommended].patch_size_vox} voxels. Close other programs, or "
        "plan for another machine with --for gpu:GB."
    )


def plan_that_fits(
    plan: Plan, name: ConfigurationName, usable_gib: float, always: bool = False
) -> Plan:
    """The plan with a batch that this machine can train, where its memory may be too small.

    The patch stays, since models of other folds have it. What was measured before, or is estimated
    to be small, is not measured unless `always`. Raises AutosegError when not even the smallest
    batch fits.
    """
    while always or not _surely_fits(plan, name, usable_gib):
        configuration = plan.configurations[name]
        peak_gib, seconds = measure(configuration, plan)
        if peak_gib is not None and seconds is not None and peak_gib <= usable_gib:
            return with_measurement(plan, name, peak_gib, seconds)
        if configuration.batch_size <= SMALLEST_BATCH:
            raise AutosegError(
                f"{configuration.batch_size} patches of {configuration.patch_size_vox} voxels do "
                f"not fit into {usable_gib:.1f} GiB. `autoseg plan DATASET --measure` finds a "
                "smaller patch."
            )
        plan = _with_smaller_batch(plan, name)
    return plan


def _surely_fits(plan: Plan, name: ConfigurationName, usable_gib: float) -> bool:
    """Whether it was measured, or the estimate is so low that measuring would be idle."""
    expected = _decision(plan, "expectation", name)
    measured = expected.rule_id == MEASURED
    return measured or expected.value["memory_gib"] < EASILY * usable_gib


def _with_smaller_batch(plan: Plan, name: ConfigurationName) -> Plan:
    configuration = plan.configurations[name]
    batch_size = max(SMALLEST_BATCH, configuration.batch_size * 3 // 4)
    smaller = configuration.model_copy(update={"batch_size": batch_size})
    decided = _decision(plan, "batch_size", name)
    because = f"{configuration.batch_size} were planned, but did not fit into memory when measured"
    decision = decided.model_copy(
        update={"value": batch_size, "rule_id": "batch_size.measured", "because": because}
    )
    return plan.model_copy(
        update={
            "configurations": plan.configurations | {name: smaller},
            "decisions": tuple(decision if d is decided else d for d in plan.decisions),
        }
    )


def _decision(plan: Plan, name: str, configuration: ConfigurationName) -> Decision:
    return next(d for d in plan.decisions if (d.name, d.configuration) == (name, configuration))


def measure(configuration: Configuration, plan: Plan) -> tuple[float | None, float | None]:
    """Peak memory in GiB and seconds of a training step; None when it does not fit."""
    # torch takes seconds to import
    from autoseg.device import choose_device
    from autoseg.training.measure import measure_training

    device = choose_device(TORCH_DEVICES[plan.machine.device])
    outcome = measure_training(configuration, plan.labels, device)
    return outcome.peak_memory_gib, outcome.step_seconds


def with_measurement(
    plan: Plan, configuration_name: ConfigurationName, peak_gib: float, seconds: float
) -> Plan:
    """The plan, with a configuration's expectation replaced by what was measured."""
    training = plan.configurations[configuration_name].training
    steps = training.iterations_per_epoch + training.validation_iterations / 3
    decisions = []
    for decision in plan.decisions:
        if (decision.name, decision.configuration) == ("expectation", configuration_name):
            value = decision.value | {
                "memory_gib": round(peak_gib, 2),
                "step_seconds": round(seconds, 3),
                "epoch_minutes": round(seconds * steps / 60, 2),
            }
            decision = Decision(
                name="expectation",
                configuration=configuration_name,
                value=value,
                rule_id=MEASURED,
                because="training steps of random patches were run on this machine",
                facts={"estimated": decision.value},
                source="--measure",
            )
        decisions.append(decision)
    return plan.model_copy(update={"decisions": tuple(decisions)})


def usable_memory_gib(machine: Machine) -> float:
    """What training may take of this machine's memory. Raises AutosegError for another machine."""
    if machine.gpu_name == ANY_GPU:
        raise AutosegError("--measure runs on this machine, so it cannot be used with --for gpu.")
    memory_gib = machine.memory_gib if machine.gpu_name is None else machine.gpu_memory_gib
    return memory_gib * USABLE[machine.device]


def memory_advice(error: Exception, configuration: Configuration) -> str | None:
    """What to change where memory did not suffice; None for any other error."""
    from autoseg.device import ran_out_of_memory

    if not ran_out_of_memory(error):
        return None
    batch, patch = configuration.batch_size, configuration.patch_size_vox
    advice = "autoseg plan DATASET --name smaller --measure, which finds a patch that fits"
    if batch > 1:
        half = (batch + 1) // 2
        steps = configuration.training.accumulated_batches * round(batch / half)
        advice = (
            f"autoseg plan DATASET --name smaller --set batch_size={half} "
            f"training.accumulated_batches={steps}, which takes about half of it and "
            f"learns the same; or {advice}"
        )
    return (
        f"Training {batch} patches of {' x '.join(map(str, patch))} voxels does not fit into "
        f"memory. Close other programs, or use {advice}."
    )
