"""How much memory training takes, without building the network."""

from collections.abc import Sequence
from math import prod

from autoseg.planning.plan import StagePlan


def convolution_elements(
    stages: Sequence[StagePlan], patch_size_vox: Sequence[int], class_count: int
) -> int:
    """Output elements of all convolutions of a plain U-Net at batch 1.

    This is nnU-Net v2's proxy for GPU memory: encoder and decoder convolutions, transposed
    convolutions and the final head, without the heads of deep supervision.
    """
    size = tuple(patch_size_vox)
    elements = 0
    for index, stage in enumerate(stages):
        size = tuple(s // stride for s, stride in zip(size, stage.stride, strict=True))
        voxels = prod(size)
        elements += stage.blocks * stage.features * voxels
        if index < len(stages) - 1:
            transposed = 1
            elements += (stage.decoder_blocks + transposed) * stage.features * voxels
        if index == 0:
            elements += class_count * voxels
    return elements
