"""Mask R-CNN as a family: what planning asks about it, without torch."""

import re
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from autoseg.errors import AutosegError
from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.anchor_search import AnchorSearch, find_anchors
from autoseg.planning.box_network_plan import AnchorLevel
from autoseg.planning.network_plan import BoxNetworkPlan, PerAxis, StagePlan
from autoseg.planning.search import PatchSearch, unet_stages
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import Topology

if TYPE_CHECKING:
    from torch import nn

PROPOSALS_PER_DETECTION, CONSIDERED_PER_PROPOSAL = 2, 4
STAGE = re.compile(r"encoder\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class RegionSize:
    """Widths and layers of the pyramid and its heads; bins are along every axis of a region."""

    features: int
    box_bins: int
    box_hidden: int
    mask_bins: int
    mask_layers: int
    samples: int | None
    points: int
    point_hidden: int


SIZES = {
    "mask_rcnn": RegionSize(256, 7, 1024, 14, 4, None, 196, 256),
    "mask_rcnn_volumes": RegionSize(128, 7, 512, 10, 4, 1, 512, 128),
    "mask_rcnn_small": RegionSize(32, 7, 128, 10, 2, 1, 98, 64),
    "mask_rcnn_small_volumes": RegionSize(32, 5, 128, 8, 2, 1, 128, 64),
}


def plan_mask_rcnn(topology: Topology, patch: PerAxis, search: PatchSearch) -> BoxNetworkPlan:
    """A published size, or a smaller one, with anchors for the objects' sizes, as many detections
    as a patch may need, and a branch for classes whose objects do not count one by one."""
    settings, objects = search.network, search.objects
    sizes_vox = objects.sizes_vox(search.spacing_mm)
    if not len(sizes_vox):
        raise AutosegError(
            "Boxes are put around objects that count one by one, and this dataset has none. Number "
            "them in files in instances/, or plan it with other rules."
        )
    stages = unet_stages(topology, settings)
    wanted = AnchorSearch(settings.finest_stride, settings.most_anchors, settings.anchor_overlap)
    anchors = find_anchors(sizes_vox, strides_of(stages), patch, wanted).levels
    many = ceil(settings.queries_per_object * objects.likely_in_patch(search.in_mm(patch)))
    size = SIZES[settings.size_of(SIZES)]
    network = region_network(size, stages, anchors, max(settings.least_queries, many))
    return network.model_copy(
        update={
            "block": "residual" if settings.residual else "plain",
            "steps": settings.steps,
            "points": size.points if settings.point_rend else 0,
            "subdivisions": int(settings.point_rend),
            "dense_classes": (0, *objects.besides) if objects.besides else (),
            "mask_stride": _mask_stride(strides_of(stages), settings.mask_stride),
        }
    )


def region_network(
    size: RegionSize,
    stages: tuple[StagePlan, ...],
    anchors: tuple[AnchorLevel, ...],
    detections: int,
) -> BoxNetworkPlan:
    """A network of a size, in as many dimensions as the stages have."""
    ones = (1,) * len(stages[0].stride)
    proposals = PROPOSALS_PER_DETECTION * detections
    return BoxNetworkPlan(
        stages=stages,
        block="plain",
        bias=True,
        features=size.features,
        anchors=anchors,
        considered=CONSIDERED_PER_PROPOSAL * proposals,
        proposals=proposals,
        detections=detections,
        box_bins=tuple(size.box_bins for _ in ones),
        box_hidden=size.box_hidden,
        mask_bins=tuple(size.mask_bins for _ in ones),
        mask_layers=size.mask_layers,
        samples=size.samples,
        point_hidden=size.point_hidden,
        mask_stride=ones,
    )


def strides_of(stages: tuple[StagePlan, ...]) -> list[PerAxis]:
    """Voxels of the patch that one of each stage stands for, per axis."""
    return [stride_of(stages[: i + 1]) for i in range(len(stages))]


def _mask_stride(strides: list[PerAxis], wanted: int) -> PerAxis:
    """That of the first stage which is as coarse as is wanted along some axis."""
    return next((stride for stride in strides if max(stride) >= wanted), strides[-1])


def _build(plan: BoxNetworkPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.mask_rcnn import MaskRCNN  # torch takes seconds to import

    return MaskRCNN(plan, in_channels, class_count)


def _levels_from_output(plan: BoxNetworkPlan, name: str) -> int | None:
    """The pyramid and all heads, then the encoder from its last stage to its first."""
    if not name.startswith(("stem.", "encoder.")):
        return 0
    match = STAGE.match(name)
    return len(plan.stages) - (int(match[1]) if match else 0)


def _gives_outputs(plan: BoxNetworkPlan, name: str) -> bool:
    return name.startswith("dense.classes.") or ".classes." in name.removeprefix("boxes")


_COST = traced_cost_of(_build)
MASK_RCNN = Family(
    build=_build,
    search=search_by(plan_mask_rcnn, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=lambda plan, name: name == "stem.conv.weight",
    gives_outputs=_gives_outputs,
    same_at_any_size=False,
    built_in=True,
)
