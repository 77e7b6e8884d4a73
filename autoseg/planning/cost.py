"""How much memory and work training takes, without building the network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from autoseg.planning.plan import NetworkPlan


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution at batch 1: values written, and multiply-adds to compute them.

    `estimated` says whether nnU-Net's estimate of memory counts it.
    """

    elements: int
    multiply_adds: int
    estimated: bool = True


def convolution_elements(
    network: NetworkPlan, patch_size_vox: Sequence[int], class_count: int
) -> int:
    """Output elements of the convolutions of a U-Net at batch 1.

    This is nnU-Net v2's proxy for GPU memory: encoder and decoder convolutions, shortcuts of
    residual stages, transposed convolutions and the final head, without the heads of deep
    supervision.
    """
    convolutions = list_convolutions(network, patch_size_vox, 1, class_count)
    return sum(c.elements for c in convolutions if c.estimated)


def multiply_adds(
    network: NetworkPlan, patch_size_vox: Sequence[int], channel_count: int, class_count: int
) -> int:
    """Multiply-adds of one forward pass of one patch; backward takes about twice as many."""
    convolutions = list_convolutions(network, patch_size_vox, channel_count, class_count)
    return sum(c.multiply_adds for c in convolutions)


def list_convolutions(
    network: NetworkPlan, patch_size_vox: Sequence[int], channel_count: int, class_count: int
) -> Iterator[Convolution]:
    """Every convolution of a U-Net on one patch."""
    size = tuple(patch_size_vox)
    residual = network.kind == "residual_unet"
    width = channel_count  # features that come in
    lowest = len(network.stages) - 1
    if residual:  # the stem
        first = network.stages[0]
        yield _convolution(width, first.features, prod(first.kernel_size), prod(size))
        width = first.features
    for index, stage in enumerate(network.stages):
        size = tuple(s // stride for s, stride in zip(size, stage.stride, strict=True))
        voxels, kernel = prod(size), prod(stage.kernel_size)
        if residual and (prod(stage.stride) > 1 or width != stage.features):  # the shortcut
            yield _convolution(width, stage.features, 1, voxels)
        for _ in range(stage.blocks * (2 if residual else 1)):
            yield _convolution(width, stage.features, kernel, voxels)
            width = stage.features
        if index == lowest:
            return
        below = network.stages[index + 1]
        yield _convolution(below.features, stage.features, 1, voxels)  # transposed
        for block in range(stage.decoder_blocks):
            into = 2 * stage.features if block == 0 else stage.features
            yield _convolution(into, stage.features, kernel, voxels)
        head = _convolution(stage.features, class_count, 1, voxels)
        if index == 0 or (network.deep_supervision and index < lowest - 1):
            yield Convolution(head.elements, head.multiply_adds, estimated=index == 0)


def _convolution(width: int, features: int, kernel_vox: int, voxels: int) -> Convolution:
    return Convolution(features * voxels, width * features * kernel_vox * voxels)
