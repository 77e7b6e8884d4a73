"""How much memory and work training takes.

What a network of any kind takes is what tracing it finds, in `autoseg/networks/`. The estimate of
U-Nets that nnU-Net's heuristics compare with their references is made from the plan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from autoseg.geometry import canonical_order
from autoseg.inspection.statistics import CaseStats
from autoseg.machine import GIB
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.network_plan import UNetPlan
from autoseg.planning.plan import Configuration

# Bytes of each voxel and output: logits in single precision, their logarithms, their gradients.
LOSS_BYTES = 12
# Bytes of each weight: itself, its gradient, and the optimiser's moment; AdamW has two, also of the
# few weights that Muon leaves to it.
KEPT_IN_HALF_PRECISION = 0.6  # of the bytes, assumed: norms keep some in single precision
WEIGHT_BYTES = {"sgd": 12, "adamw": 16, "muon": 12}


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a network takes for one patch: outputs of its convolutions and matrix products, their
    multiply-adds forward, bytes kept for the way back in single precision, and its weights.

    `output_voxels` are those of all resolutions that the loss looks at.
    """

    elements: int
    multiply_adds: int
    kept_bytes: int
    weights: int
    output_voxels: int


def training_memory_gib(configuration: Configuration, cost: NetworkCost, bf16: bool) -> float:
    """Memory of a training step: what is kept for the way back, the loss's own, and weights."""
    run = configuration.run
    kept = cost.kept_bytes * (KEPT_IN_HALF_PRECISION if bf16 else 1)
    loss = LOSS_BYTES * configuration.model.task.outputs * cost.output_voxels
    weight_bytes = WEIGHT_BYTES[run.training.optimizer]
    if run.training.ema_decay is not None:  # a copy of them
        weight_bytes += 4
    return (run.batch_size * (kept + loss) + weight_bytes * cost.weights) / GIB


def prepared_voxels(case: CaseStats, grid: GridPlan) -> float:
    """Voxels of a case on a plan's grid, before rounding to whole ones."""
    axes = (0, 1, 2)
    if grid.orientation == "canonical":
        axes = canonical_order(case.axis_codes)
    target_mm = grid.target_spacing_mm
    source_mm = [case.spacing_mm[axes[axis]] for axis in grid.axis_order][-len(target_mm) :]
    growth = prod(old / new for old, new in zip(source_mm, target_mm, strict=True))
    return prod(case.cropped_shape_vox) * growth


def convolution_elements(network: UNetPlan, patch_size_vox: Sequence[int], class_count: int) -> int:
    """Output elements of the convolutions of a U-Net at batch 1.

    This is nnU-Net v2's proxy for GPU memory: encoder and decoder convolutions, shortcuts of
    residual stages, transposed convolutions and the final head, without the heads of deep
    supervision.
    """
    return sum(_outputs(network, patch_size_vox, class_count))


def _outputs(network: UNetPlan, patch_size_vox: Sequence[int], class_count: int) -> Iterator[int]:
    size = tuple(patch_size_vox)
    residual = network.kind == "residual_unet"
    lowest = len(network.stages) - 1
    width = None  # features that come in; those of the image differ from all
    if residual:  # the stem
        width = network.stages[0].features
        yield width * prod(size)
    for index, stage in enumerate(network.stages):
        size = tuple(s // stride for s, stride in zip(size, stage.stride, strict=True))
        written = stage.features * prod(size)
        if residual and (prod(stage.stride) > 1 or width != stage.features):  # the shortcut
            yield written
        yield written * stage.blocks * (2 if residual else 1)
        width = stage.features
        if index < lowest:  # upsampled from below, then the decoder's blocks
            yield written * (1 + stage.decoder_blocks)
        if index == 0:
            yield class_count * prod(size)
