"""What a plan will take: memory, time and disk, estimated before anything runs."""

from dataclasses import asdict, astuple, dataclass
from math import inf

from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import GIB, Machine
from autoseg.planning.cost import NetworkCost, prepared_voxels, training_memory_gib
from autoseg.planning.plan import Configuration, Decision, Expectation
from autoseg.planning.run_plan import RunPlan

# Of GPUs that are not here, what one of the last years reaches in bfloat16.
GPU_RATE = 10e12
PASSES = 3  # forward, and about twice as much backward
PREPARED_BYTES = 2  # of a voxel and channel, before compression


@dataclass(frozen=True, slots=True)
class Speed:
    """What a machine gets through in training, one after the other: multiply-adds, outputs of
    layers, which have to be moved, and weights that Muon turns."""

    multiply_adds_per_s: float
    elements_per_s: float = inf
    turned_weights_per_s: float = inf

    def step_seconds(self, cost: NetworkCost, run: RunPlan) -> float:
        """Of a whole step: augmentation, forward and backward, loss and optimiser."""
        samples = run.step_samples
        turned = cost.weights if run.training.optimizer == "muon" else 0
        return (
            PASSES * cost.multiply_adds * samples / self.multiply_adds_per_s
            + cost.elements * samples / self.elements_per_s
            + turned / self.turned_weights_per_s
        )

    def facts(self) -> dict[str, float]:
        """The rates that count."""
        return {name: value for name, value in asdict(self).items() if value != inf}


# Of one hyperthread beside another, with and without bfloat16: fitted to trainings of every network
# (docs/decisions/0025-expected-times.md). More than two were not measured.
CORE = {True: Speed(75e9, 65e6, 28e6), False: Speed(36e9, 25e6, 28e6)}


def expectation(
    configuration: Configuration,
    fingerprint: Fingerprint,
    cost: NetworkCost,
    speed: Speed,
    bf16: bool,
    planned_gib: float | None = None,
) -> Expectation:
    """Memory for training, time of an epoch and of a fold, and disk for prepared scans.

    The memory that the patch was planned for goes with it.
    """
    run = configuration.run
    voxels = sum(prepared_voxels(case, configuration.grid) for case in fingerprint.cases)
    bytes_per_voxel = PREPARED_BYTES * len(fingerprint.channel_names) + 1
    return timed(
        Expectation(
            memory_gib=round(training_memory_gib(configuration, cost, bf16), 2),
            step_seconds=0,
            epoch_minutes=0,
            fold_hours=0,
            disk_gib=round(voxels * bytes_per_voxel / GIB, 3),
            planned_gib=planned_gib,
            basis="estimated",
        ),
        configuration,
        speed.step_seconds(cost, run),
    )


def timed(expected: Expectation, configuration: Configuration, step_seconds: float) -> Expectation:
    """The expectation with times that follow from those of a step."""
    training = configuration.run.training
    epoch_minutes = step_seconds * training.steps_per_epoch / 60
    return expected.model_copy(
        update={
            "step_seconds": round(step_seconds, 3),
            "epoch_minutes": round(epoch_minutes, 2),
            "fold_hours": round(epoch_minutes * training.epochs / 60, 1),
        }
    )


def assumed_speed(machine: Machine) -> Speed:
    """That of a machine that was not measured."""
    if machine.gpu_name is not None:
        return Speed(GPU_RATE)
    core, cores = CORE[machine.bf16], machine.cores
    return Speed(*(cores * of_one for of_one in astuple(core)))


def explained(
    expected: Expectation, configuration: Configuration, speed: Speed | None = None
) -> Decision:
    """The same for people to read among a plan's decisions; with the speed that was assumed."""
    because = {
        "estimated": "traced from the network, layer by layer; --measure runs a step to know",
        "measured": "training steps of random patches were run on this machine",
    }
    return Decision(
        name="expectation",
        configuration=configuration.name,
        value=expected.model_dump(mode="json", exclude_none=True),
        rule_id=f"expectation.{expected.basis}",
        because=because[expected.basis],
        facts={} if speed is None else speed.facts(),
        source="docs/decisions/0025-expected-times.md",
    )
