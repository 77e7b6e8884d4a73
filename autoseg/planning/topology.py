"""Which axes a network pools, how often, and with which kernels.

Isensee et al. 2021, nnU-Net (doi:10.1038/s41592-020-01008-z), supplementary note 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from autoseg.records import Record

FinestStride = Literal[2, 4]  # of the finest features of networks that do not look at all voxels


class PoolingRule(Record):
    """When an axis may be halved, and when its kernel grows from 1 to 3."""

    min_feature_edge_vox: int
    lone_axis_edges: int
    max_spacing_ratio: float


@dataclass(frozen=True, slots=True)
class Topology:
    """Strides into, and kernels of, each stage, highest resolution first; all per axis."""

    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What a patch must be a multiple of, per axis."""
        return divisor_of(self.strides)

    def from_finest(self, finest_stride: FinestStride) -> "Topology":
        """Five stages for a network that looks no finer than a stride: a stem, which sees the
        image, the stage that gives the finest features, and three more.

        The stem has a stride of 2 and the one after it what is left; where there are no further
        ones strides are 1 and kernels the last. Kernels are of the resolution that a stage gives.
        """
        ones = (1,) * len(self.strides[0])
        strides = [*self.strides[1:], *[ones] * 5]
        if finest_stride == 2:
            strides.insert(1, ones)
        kernels = [*self.kernel_sizes, *[self.kernel_sizes[-1]] * 5]
        del kernels[1 : finest_stride // 2]
        return Topology(tuple(strides[:5]), tuple(kernels[:5]))


def divisor_of(strides: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The product of all strides, per axis."""
    return tuple(prod(along) for along in zip(*strides, strict=True))


def find_topology(
    spacing_mm: Sequence[float], patch_size_vox: Sequence[float], rule: PoolingRule
) -> tuple[Topology, tuple[int, ...]]:
    """Pool fine axes first until none can be; return the topology and the patch padded to it.

    An axis pools while at least twice the smallest feature map edge is left and its spacing is
    under `max_spacing_ratio` times the finest among such axes; a lone axis needs
    `lone_axis_edges` times the edge. An axis's kernel is 1 until its spacing comes within the
    ratio of the finest axis, and 3 from then on; the lowest stage always has 3.
    """
    axes = range(len(spacing_mm))
    spacing = [float(value) for value in spacing_mm]
    size = [float(value) for value in patch_size_vox]
    kernel = [1] * len(spacing)
    strides = [(1,) * len(spacing)]
    kernel_sizes = []
    while True:
        large = [a for a in axes if size[a] >= 2 * rule.min_feature_edge_vox]
        if not large:
            break
        finest = min(spacing[a] for a in large)
        pooled = [a for a in large if spacing[a] / finest < rule.max_spacing_ratio]
        lone_edge = rule.lone_axis_edges * rule.min_feature_edge_vox
        if len(pooled) == 1 and size[pooled[0]] < lone_edge:
            break
        finest_of_all = min(spacing)
        for axis in axes:
            if spacing[axis] / finest_of_all < rule.max_spacing_ratio:
                kernel[axis] = 3
        for axis in pooled:
            spacing[axis] *= 2
            size[axis] = -(-size[axis] // 2)
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        kernel_sizes.append(tuple(kernel))
    kernel_sizes.append((3,) * len(spacing))
    topology = Topology(tuple(strides), tuple(kernel_sizes))
    return topology, pad_to_multiple(patch_size_vox, topology.divisor)


def pad_to_multiple(size_vox: Sequence[float], divisor: Sequence[int]) -> tuple[int, ...]:
    """The smallest multiple of the divisor that holds a size, per axis."""
    return tuple(int(-(-s // d) * d) for s, d in zip(size_vox, divisor, strict=True))
