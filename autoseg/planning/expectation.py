"""What a plan will cost: memory, time and disk, estimated before anything runs."""

from math import prod

from autoseg.geometry import canonical_order
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.machine import GIB, Machine
from autoseg.planning.cost import convolution_elements, multiply_adds
from autoseg.planning.plan import Configuration, Decision

# Multiply-adds a second that whole training steps reach, optimiser and loss included: measured on
# 2 cores by benchmarks/training_step.py, and scaled with the cores.
CPU_RATE_PER_CORE = {True: 65e9, False: 36e9}  # with and without bfloat16
GPU_RATE = (
    10e12  # of a GPU of the last years, in bfloat16; what trainings reach, not the data sheet
)
PUBLISHED_GIB_PER_ELEMENT = 8 / (2 * 560e6)  # nnU-Net v2's reference: a batch of two in 8 GiB
PREPARED_BYTES = 2  # of a voxel and channel, before compression


def expectation(
    configuration: Configuration,
    fingerprint: Fingerprint,
    machine: Machine,
    gib_per_element: float,
) -> Decision:
    """Memory for training, time of an epoch, and disk for prepared scans, as a decision.

    `gib_per_element` is the memory that the patch search counts for a convolution's output.
    """
    classes = fingerprint.labels.declared_count
    channels = len(fingerprint.channel_names)
    network, patch = configuration.network, configuration.patch_size_vox
    elements = convolution_elements(network, patch, classes) * configuration.batch_size
    work = 3 * multiply_adds(network, patch, channels, classes) * configuration.batch_size
    training = configuration.training
    steps = training.iterations_per_epoch + training.validation_iterations / 3
    seconds = work / _rate(machine)
    voxels = _prepared_voxels(configuration, fingerprint)
    value = {
        "memory_gib": round(elements * gib_per_element, 2),
        "step_seconds": round(seconds, 3),
        "epoch_minutes": round(seconds * steps / 60, 2),
        "disk_gib": round(voxels * (channels * PREPARED_BYTES + 1) / GIB, 3),
    }
    return Decision(
        name="expectation",
        configuration=configuration.name,
        value=value,
        rule_id="expectation.estimated",
        because="estimated from the network's convolutions; --measure runs a step to know",
        facts={"convolution_elements": elements, "multiply_adds_per_step": work},
        source="benchmarks/training_step.py; nnU-Net v2's memory reference",
    )


def _rate(machine: Machine) -> float:
    if machine.gpu_name is not None:
        return GPU_RATE
    return CPU_RATE_PER_CORE[machine.bf16] * machine.cores


def _prepared_voxels(configuration: Configuration, fingerprint: Fingerprint) -> float:
    """Voxels of all prepared scans; without resampling along the first axis in two dimensions."""
    total = 0.0
    order = configuration.axis_order
    target = configuration.target_spacing_mm
    for case in fingerprint.cases:
        axes = (0, 1, 2)
        if configuration.orientation == "canonical":
            axes = canonical_order(case.axis_codes)
        planned = [axes[axis] for axis in order]
        spacing = [case.spacing_mm[axis] for axis in planned][-len(target) :]
        growth = prod(old / new for old, new in zip(spacing, target, strict=True))
        total += prod(case.cropped_shape_vox) * growth
    return total
