"""The planner's searches: target spacing, patch with its network, and a coarser spacing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod, sqrt
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.machine import GIB
from autoseg.planning.cost import NetworkCost, convolution_elements
from autoseg.planning.decisions import (
    LowresSettings,
    NetworkSettings,
    PatchSettings,
    SpacingSettings,
)
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.network_plan import NetworkPlan, StagePlan, UNetPlan
from autoseg.planning.topology import PoolingRule, Topology, find_topology


class NetworkFamily(Protocol):
    """What planning asks of a kind of networks."""

    @property
    def search(self) -> "Callable[[PatchSearch], FoundPatch]":
        """Fill the memory to plan for: a patch, and a network for it."""

    @property
    def patch_divisor(self) -> Callable[[Any], tuple[int, ...]]:
        """What a patch must be a multiple of, per axis."""

    @property
    def cost(self) -> Callable[[ModelPlan], NetworkCost]:
        """What the network takes for one patch, as tracing it finds."""

    @property
    def sees_inputs(self) -> Callable[[Any, str], bool] | None:
        """Which weights look at the input channels; None where nobody knows."""


N = TypeVar("N", bound=NetworkPlan)
Families = Callable[[str], NetworkFamily]  # by the network's kind; AutosegError for an unknown one


@dataclass(frozen=True, slots=True)
class ExpectedObjects:
    """The most objects of a scan, and of a box that is no larger than scans are; and the sides of
    that box, and of the boxes around a sample of objects, in mm along the plan's axes."""

    in_scan: int = 0
    in_box: int = 0
    box_mm: tuple[float, ...] = (1, 1, 1)
    sizes_mm: tuple[tuple[float, ...], ...] = ()
    besides: tuple[int, ...] = ()  # classes whose objects do not count one by one

    def in_patch(self, patch_mm: Sequence[float]) -> int:
        """The most that a patch may hold: a small one may lie where objects are dense."""
        return min(self.in_scan, ceil(self.in_box * max(1.0, self._boxes(patch_mm))))

    def likely_in_patch(self, patch_mm: Sequence[float]) -> int:
        """The same where a smaller patch has its share of them, and three deviations more, as if
        each lay anywhere."""
        share = self._boxes(patch_mm) * self.in_box
        return min(self.in_patch(patch_mm), ceil(share + 3 * sqrt(share)))

    def _boxes(self, patch_mm: Sequence[float]) -> float:
        """How many boxes a patch is as large as; of slices only what lies in them."""
        box_mm = self.box_mm[-len(patch_mm) :]
        return prod(size / edge for size, edge in zip(patch_mm, box_mm, strict=True))

    def sizes_vox(self, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
        """[object, axis] on a grid of a spacing; of slices only what lies in them."""
        sizes_mm = np.array(self.sizes_mm, float).reshape(-1, 3)
        sizes_vox: NDArray[np.float64] = sizes_mm[:, -len(spacing_mm) :] / np.array(spacing_mm)
        return sizes_vox


@dataclass(frozen=True, slots=True)
class PatchSearch:
    """Everything that the patch search looks at; `median_voxels` are those of the whole scan.

    `class_count` is as declared, with background and ignore label, and what nnU-Net's estimate of
    memory counts; the network takes `channels`, and has `outputs`.
    """

    spacing_mm: tuple[float, ...]
    median_shape_vox: tuple[float, ...]
    median_voxels: float
    class_count: int
    channels: int
    outputs: int
    memory_gib: float
    patch: PatchSettings
    network: NetworkSettings
    pooling: PoolingRule
    family: NetworkFamily
    bf16: bool = False  # whether the machine computes in half precision
    objects: ExpectedObjects = ExpectedObjects()

    def in_mm(self, patch_size_vox: Sequence[int]) -> list[float]:
        """The sides of a patch."""
        return [n * mm for n, mm in zip(patch_size_vox, self.spacing_mm, strict=True)]

    @property
    def reference_elements(self) -> float:
        """Convolution outputs that fit into the memory planned for."""
        return self.patch.reference_elements * (self.memory_gib / self.patch.reference_memory_gib)

    @property
    def gib_per_element(self) -> float:
        """Memory that is counted for each convolution output of a batch."""
        at_reference = self.patch.reference_elements * self.patch.reference_batch
        return self.patch.reference_memory_gib / at_reference

    def loss_elements(self, patch_size_vox: Sequence[int]) -> float:
        """The loss's own memory for a patch, as convolution outputs that take as much."""
        loss_bytes = self.patch.loss_bytes * self.outputs * prod(patch_size_vox)
        return loss_bytes / GIB / self.gib_per_element


@dataclass(frozen=True, slots=True)
class FoundPatch:
    """A patch with its network and its estimate of memory; `shrunk` says that memory limited it.

    A network that is not `deep_enough` sees its input at a single resolution.
    """

    size_vox: tuple[int, ...]
    network: NetworkPlan
    elements: float
    shrunk: bool
    deep_enough: bool


NetworkOf = Callable[[Topology, tuple[int, ...], PatchSearch], N]  # for strides and a patch


def find_target_spacing(
    spacings_mm: NDArray[np.float64], shapes_vox: NDArray[np.int64], settings: SpacingSettings
) -> NDArray[np.float64]:
    """Spacing to resample every case to, in mm per axis.

    `spacings_mm` and `shapes_vox` are [case, axis], after cropping.
    """
    target: NDArray[np.float64] = np.percentile(spacings_mm, settings.percentile, axis=0)
    median_shape = np.percentile(shapes_vox, 50, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != coarse]
    coarsest_other = max(target[others])
    thick = target[coarse] > settings.coarse_axis_ratio * coarsest_other
    few = median_shape[coarse] * settings.coarse_axis_ratio < min(median_shape[others])
    if thick and few:
        finer = np.percentile(spacings_mm[:, coarse], settings.coarse_axis_percentile)
        if finer < coarsest_other:
            finer = coarsest_other + 1e-5  # the axis stays the coarsest
        target[coarse] = finer
    return target


def find_patch(search: PatchSearch) -> FoundPatch:
    """The largest patch whose network's estimate fits into memory.

    Raises AutosegError when the scans have too few voxels for the network, or memory is too little.
    """
    found = search.family.search(search)
    if not found.deep_enough:
        raise too_little_memory(search) if found.shrunk else _too_few_voxels(search)
    return found


def search_unet(search: PatchSearch) -> FoundPatch:
    """The first patch whose U-Net fits by nnU-Net's estimate, which may have a single stage."""

    def elements(network: UNetPlan, patch: tuple[int, ...]) -> int:
        return convolution_elements(network, patch, search.class_count)

    return shrink_to_fit(search, unet_of, elements)


def shrink_to_fit(
    search: PatchSearch,
    network_of: NetworkOf[N],
    elements: Callable[[N, tuple[int, ...]], float],
) -> FoundPatch:
    """The first patch that fits, with a network whose strides follow spacing and patch.

    Starts from a patch shaped like the median scan, and shrinks the axis that is largest against
    it by one step of its pooling until the batch to fit does, and the patch has as few voxels as
    is asked for; `network_of` plans a network for strides and kernels, `elements` are those of a
    network. Raises AutosegError where no patch does.
    """
    topology, patch = find_topology(search.spacing_mm, _first_patch(search), search.pooling)
    most_voxels = search.patch.most_voxels or prod(patch)
    shrunk = False
    while True:
        if prod(patch) <= most_voxels:
            network = network_of(topology, patch, search)
            needed = elements(network, patch) + search.loss_elements(patch)
            fitting = needed * search.patch.fitting_batch / search.patch.reference_batch
            if fitting <= search.reference_elements:
                return FoundPatch(patch, network, needed, shrunk, len(topology.strides) > 1)
        shrunk = True
        smaller = _shrunk(search, topology, patch)
        if smaller is None:
            raise too_little_memory(search)
        topology, patch = find_topology(search.spacing_mm, smaller, search.pooling)


def _shrunk(search: PatchSearch, topology: Topology, patch: tuple[int, ...]) -> list[int] | None:
    """The patch a step smaller along the largest axis that has a step to give."""
    share = [edge / size for edge, size in zip(patch, search.median_shape_vox, strict=True)]
    for axis in np.argsort(share)[::-1]:
        smaller = list(patch)
        smaller[axis] -= topology.divisor[axis]
        divisor = find_topology(search.spacing_mm, smaller, search.pooling)[0].divisor
        if patch[axis] > divisor[axis]:
            smaller[axis] = patch[axis] - divisor[axis]
            return smaller
    return None


def _first_patch(search: PatchSearch) -> list[float]:
    """A patch of the initial volume, isotropic in mm, no larger than the median scan."""
    inverse = 1 / np.array(search.spacing_mm)
    scale = (search.patch.initial_volume_vox / np.prod(inverse)) ** (1 / len(inverse))
    initial = [
        min(round(edge), size)
        for edge, size in zip(inverse * scale, search.median_shape_vox, strict=True)
    ]
    if min(initial) < 1:
        raise _too_few_voxels(search)
    return initial


def _too_few_voxels(search: PatchSearch) -> AutosegError:
    return AutosegError(
        f"The median scan has {search.median_shape_vox} voxels on the plan's grid: too few for "
        "a U-Net, which halves them at least once. Use scans of at least 12 voxels an axis."
    )


def too_little_memory(search: PatchSearch) -> AutosegError:
    most_voxels = search.patch.most_voxels
    bound = "" if most_voxels is None else f", with at most {most_voxels} voxels"
    remedy = "" if most_voxels is None else ", or raise most_voxels in the rule of patch_size_vox"
    return AutosegError(
        f"No patch fits into {search.memory_gib:g} GiB{bound}. Plan for a machine with more memory "
        f"(--for gpu:GB){remedy}."
    )


def find_lowres(
    search: PatchSearch, patch_vox: tuple[int, ...], settings: LowresSettings
) -> PatchSearch | None:
    """The finest spacing at which a patch covers enough of the median scan, to search again with.

    Spacing grows step by step, finer axes first while they are far from the coarsest. None where
    the patch covers enough already, a coarser spacing leaves scans nearly as large as before, or
    too few voxels of an axis are left for a U-Net.
    """
    full_mm, median_vox = np.array(search.spacing_mm), np.array(search.median_shape_vox)
    spacing_mm, coarser = full_mm.copy(), search
    voxels = float(np.prod(median_vox))
    patch_voxels = float(np.prod(patch_vox))
    deep_enough = False
    while patch_voxels / voxels < settings.patch_fraction:
        finer = spacing_mm.max() / spacing_mm > settings.finer_axis_ratio
        spacing_mm[finer if finer.any() else slice(None)] *= settings.spacing_step
        shape_vox = full_mm / spacing_mm * median_vox
        voxels = float(np.prod(shape_vox))
        coarser = replace(
            search,
            spacing_mm=tuple(spacing_mm.tolist()),
            median_shape_vox=tuple(round(size) for size in shape_vox.tolist()),
            median_voxels=voxels,
        )
        try:
            found = search.family.search(coarser)
        except AutosegError:
            return None
        patch_voxels, deep_enough = float(np.prod(found.size_vox)), found.deep_enough
    # On the way a single stage does not matter: only the last spacing is planned with.
    helps = np.prod(median_vox) / voxels >= settings.smallest_voxel_ratio
    return coarser if helps and deep_enough else None


def unet_stages(topology: Topology, settings: NetworkSettings) -> tuple[StagePlan, ...]:
    """A stage for each resolution, whose features double."""
    lowest = len(topology.strides) - 1
    return tuple(
        StagePlan(
            features=min(settings.max_features, settings.base_features * 2**index),
            kernel_size=kernel_size,
            stride=stride,
            blocks=settings.blocks[min(index, len(settings.blocks) - 1)],
            decoder_blocks=settings.decoder_blocks if index < lowest else 0,
        )
        for index, (stride, kernel_size) in enumerate(
            zip(topology.strides, topology.kernel_sizes, strict=True)
        )
    )


def unet_of(topology: Topology, patch: tuple[int, ...], search: PatchSearch) -> UNetPlan:
    """A U-Net with a stage for each resolution."""
    settings = search.network
    stages = unet_stages(topology, settings)
    return UNetPlan(
        kind=settings.kind,
        stages=stages,
        norm="instance",
        activation="leaky_relu",
        bias=settings.bias,
        upsampling=settings.upsampling,
        deep_supervision=settings.deep_supervision,
        squeeze_excitation=settings.squeeze_excitation,
    )
