"""Small plans of every kind of network but the U-Nets, in two and three dimensions."""

from collections.abc import Callable

from autoseg.networks.deeplab_family import pyramid_rates, stages_to
from autoseg.networks.mask_queries_family import QuerySize, query_network
from autoseg.networks.mask_rcnn_family import RegionSize, region_network
from autoseg.networks.mednext_family import SIZES as MEDNEXTS
from autoseg.networks.mednext_family import stages_of
from autoseg.networks.one_stage_family import HeadSize, Pyramid, solo_network, yolact_network
from autoseg.networks.segformer_family import MixTransformer, segformer_of
from autoseg.planning.box_network_plan import AnchorLevel
from autoseg.planning.network_plan import (
    BoxNetworkPlan,
    DeepLabPlan,
    FCNPlan,
    MedNeXtPlan,
    NetworkPlan,
    QueryNetworkPlan,
    SegFormerPlan,
    SoloPlan,
    StagePlan,
    YolactPlan,
)
from autoseg.planning.size_ranges import Sizes
from autoseg.planning.topology import Topology

PATCHES: dict[int, tuple[int, ...]] = {2: (16, 24), 3: (4, 16, 24)}


def topology_of(dims: int) -> Topology:
    """Halved twice; in three dimensions the first axis is coarse at first."""
    ones, two = (1,) * dims, (2,) * dims
    if dims == 2:
        return Topology((ones, two, two), ((3, 3),) * 3)
    return Topology((ones, (1, 2, 2), two), ((1, 3, 3), (3, 3, 3), (3, 3, 3)))


def stages(topology: Topology) -> tuple[StagePlan, ...]:
    return tuple(
        StagePlan(features=4 * 2**i, kernel_size=kernel, stride=stride, blocks=1, decoder_blocks=0)
        for i, (kernel, stride) in enumerate(
            zip(topology.kernel_sizes, topology.strides, strict=True)
        )
    )


def fcn(dims: int) -> FCNPlan:
    return FCNPlan(stages=stages(topology_of(dims)), block="residual", skips=2, bias=True)


def deeplab(dims: int) -> DeepLabPlan:
    dilated = stages_to(topology_of(dims), 18, 8, 4)
    rates = pyramid_rates(PATCHES[dims], (1.0,) * dims)
    return DeepLabPlan(
        depth=18, stages=dilated, low_level=1, rates=rates, pyramid_features=8,
        low_level_features=4, separable=True, dropout=0.1,
    )  # fmt: skip


def segformer(dims: int) -> SegFormerPlan:
    size = MixTransformer((1, 1, 2, 1), (4, 8, 10, 8), 8)
    return segformer_of(size, topology_of(dims))


def mednext(dims: int) -> MedNeXtPlan:
    levels = stages_of(MEDNEXTS["s"], topology_of(dims), 4, 3)
    return MedNeXtPlan(stages=levels, deep_supervision=True)


def mask_queries(dims: int) -> QueryNetworkPlan:
    size = QuerySize("deformable", "masked", 8, 2, 1, 8, 3, 8)
    cells = (2, 3) if dims == 2 else ()  # learned in volumes
    return query_network(size, stages(topology_of(dims)), queries=6, mask_stride=2, cells=cells)


def mask_rcnn(dims: int) -> BoxNetworkPlan:
    size = RegionSize(8, 3, 8, 4, 1, 1, 6, 8)
    anchors = tuple(AnchorLevel(stage=s, sizes_vox=((4.0 * s,) * dims,)) for s in (1, 2))
    network = region_network(size, stages(topology_of(dims)), anchors, 6)
    more = {
        "points": 6,
        "subdivisions": 1,
        "dense_classes": (0,),
        "mask_stride": network.strides[1],
    }
    return network.model_copy(update=more)


def small_pyramid(dims: int) -> Pyramid:
    return Pyramid.of(stages(topology_of(dims)), 2, (1.0,) * dims)


def solov2(dims: int) -> SoloPlan:
    size = HeadSize(features=8, tower=1, mask_features=8, mask_tower=1, near=True)
    return solo_network(size, small_pyramid(dims), PATCHES[dims], Sizes(3, 20), candidates=6)


def yolact(dims: int) -> YolactPlan:
    size = HeadSize(features=8, tower=1, mask_features=4)
    return yolact_network(size, small_pyramid(dims), Sizes(3, 20), candidates=6)


SMALL: dict[str, Callable[[int], NetworkPlan]] = {
    "fcn": fcn,
    "deeplabv3plus": deeplab,
    "segformer": segformer,
    "mednext": mednext,
    "mask_queries": mask_queries,
    "mask_rcnn": mask_rcnn,
    "solov2": solov2,
    "yolact": yolact,
}
RULES = {
    "fcn": "fcn", "deeplabv3plus": "deeplab", "segformer": "segformer", "mednext": "mednext",
    "mask_queries": "mask_queries", "mask_rcnn": "mask_rcnn", "solov2": "solov2",
    "yolact": "yolact",
}  # fmt: skip
