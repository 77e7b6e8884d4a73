"""Which axes a network pools, how often, and with which kernels.

Isensee et al. 2021, nnU-Net (doi:10.1038/s41592-020-01008-z), supplementary note 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from autoseg.records import Record


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

    def stem_and_stages(self, finest_stride: int) -> tuple[tuple[int, ...], ...]:
        """Strides of a stem, of the pooling after it, and of three more stages, 1 beyond those
        that there are. Where the finest features have a stride of 2, nothing is pooled there."""
        ones = (1,) * len(self.strides[0])
        pooled = [*self.strides[1:], *[ones] * 5]
        if finest_stride == 2:
            pooled.insert(1, ones)
        return tuple(pooled[:5])


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
