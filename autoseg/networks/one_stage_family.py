"""SOLOv2 and YOLACT as families: what planning asks about them, without torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import TYPE_CHECKING, Any

from autoseg.networks.family import Build, Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import (
    OneStagePlan,
    PerAxis,
    SoloPlan,
    StagePlan,
    YolactPlan,
)
from autoseg.planning.search import NetworkOf, PatchSearch, unet_stages
from autoseg.planning.size_ranges import Sizes, octaves, solo_ranges
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import Topology

if TYPE_CHECKING:
    from torch import nn

STAGE = re.compile(r"body\.encoder\.(\d+)\.")
CELLS_ACROSS = 2.0  # of the smallest object that a grid looks for
STRIDES_ACROSS = 3.0  # of a box; published: 24 pixels at a stride of 8


@dataclass(frozen=True, slots=True)
class HeadSize:
    """Widths and numbers of layers of heads."""

    features: int
    tower: int
    mask_features: int
    mask_tower: int = 2
    near: bool = False


SOLO_SIZES = {
    "solov2": HeadSize(256, 4, 256),
    "solov2_small": HeadSize(64, 2, 64, near=True),
}
YOLACT_SIZES = {"yolact": HeadSize(256, 1, 32), "yolact_small": HeadSize(64, 1, 16)}


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The stages of a network, that at which masks lie, and the spacing of the patch."""

    stages: tuple[StagePlan, ...]
    mask_level: int
    spacing_mm: tuple[float, ...]

    @classmethod
    def of(cls, stages: tuple[StagePlan, ...], mask_stride: int, spacing_mm: Any) -> "Pyramid":
        """With masks at the first stage that is as coarse as asked for along some axis."""
        coarse = [max(stride_of(stages[: i + 1])) for i in range(len(stages))]
        level = next((i for i, stride in enumerate(coarse) if stride >= mask_stride), 0)
        return cls(stages, level, tuple(spacing_mm))

    def stage_of(self, cell_mm: float) -> int:
        """The coarsest stage whose voxels are at most so wide along every axis, of those of the
        pyramid but the lowest, which sees too much at once, where there are others."""
        last = max(self.mask_level, len(self.stages) - 2)
        fits = [
            level
            for level in range(self.mask_level, last + 1)
            if self._voxel_mm(level) <= cell_mm * 1.01
        ]
        return max(fits, default=self.mask_level)

    @property
    def mask_stride(self) -> PerAxis:
        return stride_of(self.stages[: self.mask_level + 1])

    def _voxel_mm(self, level: int) -> float:
        stride = stride_of(self.stages[: level + 1])
        return max(s * mm for s, mm in zip(stride, self.spacing_mm, strict=True))


def plan_solo(topology: Topology, patch: PerAxis, search: PatchSearch) -> SoloPlan:
    """A published size, or a smaller one, whose grids have two cells across the smallest object
    that they look for."""
    settings = search.network
    size = SOLO_SIZES[settings.size_of(SOLO_SIZES)]
    pyramid = Pyramid.of(unet_stages(topology, settings), settings.mask_stride, search.spacing_mm)
    return solo_network(size, pyramid, patch, _sizes(search), _candidates(patch, search))


def solo_network(
    size: HeadSize, pyramid: Pyramid, patch: PerAxis, sizes: Sizes, candidates: int
) -> SoloPlan:
    cells_mm = [
        smallest_mm / CELLS_ACROSS for smallest_mm, _ in solo_ranges(sizes, pyramid.spacing_mm)
    ]
    return SoloPlan(
        stages=pyramid.stages,
        bias=True,
        features=size.features,
        mask_level=pyramid.mask_level,
        tower=size.tower,
        candidates=candidates,
        grids=tuple(
            tuple(
                max(1, min(n, ceil(n * mm / cell_mm)))
                for n, mm in zip(patch, pyramid.spacing_mm, strict=True)
            )
            for cell_mm in cells_mm
        ),
        head_stages=tuple(pyramid.stage_of(cell_mm) for cell_mm in cells_mm),
        mask_features=size.mask_features,
        mask_tower=size.mask_tower,
        waves=tuple(
            waves_along(n * mm, max(sizes.known(pyramid.spacing_mm)[0], 2 * stride * mm))
            for n, mm, stride in zip(patch, pyramid.spacing_mm, pyramid.mask_stride, strict=True)
        ),
        near=size.near,
    )


def waves_along(extent_mm: float, half_mm: float) -> int:
    """Of how many lengths waves are along an axis of the patch: from all of it, halved while half a
    wave is as wide as the smallest object, and as two voxels of masks."""
    return max(0, floor(log2(extent_mm / (2 * half_mm))) + 1)


def plan_yolact(topology: Topology, patch: PerAxis, search: PatchSearch) -> YolactPlan:
    """A published size, or a smaller one, with a box for each octave of objects' sizes."""
    settings = search.network
    size = YOLACT_SIZES[settings.size_of(YOLACT_SIZES)]
    pyramid = Pyramid.of(unet_stages(topology, settings), settings.mask_stride, search.spacing_mm)
    return yolact_network(size, pyramid, _sizes(search), _candidates(patch, search))


def yolact_network(size: HeadSize, pyramid: Pyramid, sizes: Sizes, candidates: int) -> YolactPlan:
    edges_mm = octaves(sizes, pyramid.spacing_mm)
    stages = [pyramid.stage_of(edge_mm / STRIDES_ACROSS) for edge_mm in edges_mm]
    return YolactPlan(
        stages=pyramid.stages,
        bias=True,
        features=size.features,
        mask_level=pyramid.mask_level,
        tower=size.tower,
        candidates=candidates,
        anchors=tuple(boxes_of(edge_mm, pyramid.spacing_mm) for edge_mm in edges_mm),
        head_stages=tuple(stages),
        prototypes=size.mask_features,
    )


def boxes_of(edge_mm: float, spacing_mm: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Edges in voxels of a cube in mm, and of as large boxes that are twice as long along each axis
    in turn as along the others: in slices the published ratios 1, 2 and a half."""
    dims = len(spacing_mm)
    wide = 2 ** (-1 / dims)
    shapes = [
        [1.0] * dims,
        *([2 * wide if a == b else wide for b in range(dims)] for a in range(dims)),
    ]
    return tuple(
        tuple(round(edge_mm * s / mm, 3) for s, mm in zip(shape, spacing_mm, strict=True))
        for shape in shapes
    )


def _sizes(search: PatchSearch) -> Sizes:
    return Sizes.of(search.objects.sizes_vox(search.spacing_mm), search.spacing_mm)


def _candidates(patch: PerAxis, search: PatchSearch) -> int:
    wanted = ceil(search.network.queries_per_object * search.objects.in_patch(search.in_mm(patch)))
    return max(search.network.least_queries, wanted)


def _build_solo(plan: SoloPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.solov2 import SoloV2  # torch takes seconds to import

    return SoloV2(plan, in_channels, class_count)


def _build_yolact(plan: YolactPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.yolact import Yolact  # torch takes seconds to import

    return Yolact(plan, in_channels, class_count)


def _levels_from_output(plan: OneStagePlan, name: str) -> int | None:
    """Pyramid and heads, then the encoder from its last stage to its first."""
    if not name.startswith(("body.stem.", "body.encoder.")):
        return 0
    match = STAGE.match(name)
    return len(plan.stages) - (int(match[1]) if match else 0)


def _family(build: Build, network_of: NetworkOf[Any], heads: tuple[str, ...]) -> Family:
    cost = traced_cost_of(build)
    return Family(
        build=build,
        search=search_by(network_of, cost),
        patch_divisor=lambda plan: stride_of(plan.stages),
        cost=cost,
        levels_from_output=_levels_from_output,
        sees_inputs=lambda plan, name: name == "body.stem.conv.weight",
        gives_outputs=lambda plan, name: name.startswith(heads),
        same_at_any_size=False,
        built_in=True,
    )


SOLOV2 = _family(_build_solo, plan_solo, ("semantic.", "cells."))
YOLACT = _family(_build_yolact, plan_yolact, ("semantic.", "classes."))
