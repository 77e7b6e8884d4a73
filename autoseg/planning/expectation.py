"""What a plan will take: memory, time and disk, estimated before anything runs."""

from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import GIB, Machine
from autoseg.planning.cost import NetworkCost, prepared_voxels, training_memory_gib
from autoseg.planning.plan import Configuration, Decision, Expectation

# Multiply-adds a second that whole training steps reach, optimiser and loss included: measured on
# 2 cores by benchmarks/training_step.py, and scaled with the cores. Of GPUs that are not here, what
# one of the last years reaches in bfloat16.
CPU_RATE_PER_CORE = {True: 65e9, False: 36e9}  # with and without bfloat16
GPU_RATE = 10e12
# What networks reach of the rate of a U-Net on a CPU in single precision, optimiser included
# (docs/networks.md). In half precision depthwise convolutions are torch's, which are slow; how slow
# was measured in single precision.
CPU_SHARES = {"fcn": 1.5, "deeplabv3plus": 0.85, "segformer": 0.55, "mednext": 0.45}
CPU_SHARES_BF16 = CPU_SHARES | {"segformer": 0.5, "mednext": 0.13}
PASSES = 3  # forward, and about twice as much backward
PREPARED_BYTES = 2  # of a voxel and channel, before compression


def expectation(
    configuration: Configuration,
    fingerprint: Fingerprint,
    cost: NetworkCost,
    rate: float,
    bf16: bool,
    planned_gib: float | None = None,
) -> Expectation:
    """Memory for training, time of an epoch and of a fold, and disk for prepared scans.

    `rate` is in multiply-adds a second. The memory that the patch was planned for goes with it.
    """
    run = configuration.run
    voxels = sum(prepared_voxels(case, configuration.grid) for case in fingerprint.cases)
    bytes_per_voxel = PREPARED_BYTES * len(fingerprint.channel_names) + 1
    seconds = PASSES * cost.multiply_adds * run.step_samples / rate
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
        seconds,
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


def assumed_rate(machine: Machine) -> float:
    """Multiply-adds a second of a machine that is not here to be measured."""
    if machine.gpu_name is not None:
        return GPU_RATE
    return CPU_RATE_PER_CORE[machine.bf16] * machine.cores


def share_of_rate(machine: Machine, kind: str) -> float:
    """How much of a U-Net's rate a kind of network reaches, as far as that was measured."""
    shares = CPU_SHARES_BF16 if machine.bf16 else CPU_SHARES
    return shares.get(kind, 1.0) if machine.device == "cpu" else 1.0


def explained(expected: Expectation, configuration: Configuration, rate: float | None) -> Decision:
    """The same for people to read among a plan's decisions."""
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
        facts={} if rate is None else {"multiply_adds_per_second": rate},
        source="benchmarks/training_step.py",
    )
