"""Networks of mask queries as a family: what planning asks about them, without torch."""

import re
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Literal

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import PerAxis, QueryNetworkPlan, StagePlan
from autoseg.planning.query_cells import cells_over
from autoseg.planning.search import PatchSearch, unet_stages
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import Topology

if TYPE_CHECKING:
    from torch import nn

ATTENDED, SAMPLED_POINTS = 3, 4
LOWEST = 8  # strides of the lowest stage at the most, in voxels of masks
STAGE = re.compile(r"encoder\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class QuerySize:
    """Widths and layers of the pixel decoder and of the decoder of queries."""

    pixel_decoder: Literal["deformable", "fpn"]
    attention: Literal["masked", "full"]
    features: int
    heads: int
    pixel_layers: int
    pixel_hidden: int
    query_layers: int
    query_hidden: int
    in_cells: bool = False  # where queries for things begin


SIZES = {
    "mask2former": QuerySize("deformable", "masked", 256, 8, 6, 1024, 9, 2048),
    "mask2former_small": QuerySize("deformable", "masked", 64, 8, 2, 256, 6, 256, in_cells=True),
    "maskformer": QuerySize("fpn", "full", 256, 8, 0, 0, 6, 2048),
    "maskformer_small": QuerySize("fpn", "full", 64, 8, 0, 0, 6, 256, in_cells=True),
}


def plan_mask_queries(topology: Topology, patch: PerAxis, search: PatchSearch) -> QueryNetworkPlan:
    """A published size, or a smaller one, with queries for the objects of such a patch."""
    settings = search.network
    size = SIZES[settings.size_of(SIZES)]
    objects = search.objects.in_patch(search.in_mm(patch))
    masks = search.outputs + objects  # of what is not counted one a class
    queries = max(settings.least_queries, ceil(settings.queries_per_object * masks))
    extent_mm = [n * mm for n, mm in zip(patch, search.spacing_mm, strict=True)]
    cells = cells_over(extent_mm, queries) if size.in_cells and objects else ()
    stages = unet_stages(topology, settings)
    return query_network(size, stages, queries, settings.mask_stride, cells)


def query_network(
    size: QuerySize,
    stages: tuple[StagePlan, ...],
    queries: int,
    mask_stride: int,
    cells: PerAxis = (),
) -> QueryNetworkPlan:
    """A network of so many queries, or, with a grid of cells, of one for each.

    Masks lie at the first stage that is `mask_stride` times as coarse as the patch along some axis,
    but not below the stages that queries look at. The lowest of these is at most 8 times as coarse
    as masks, as published.
    """
    coarse = [max(stride_of(stages[: i + 1])) for i in range(len(stages))]
    stages = stages[: sum(stride <= LOWEST * mask_stride for stride in coarse)]
    attended = min(ATTENDED, len(stages))
    level = next((i for i, c in enumerate(coarse) if c >= mask_stride), len(stages) - 1)
    return QueryNetworkPlan(
        stages=stages,
        bias=True,
        mask_level=min(level, len(stages) - attended),
        attended=attended,
        pixel_decoder=size.pixel_decoder,
        attention=size.attention,
        features=size.features,
        heads=size.heads,
        pixel_layers=size.pixel_layers,
        pixel_hidden=size.pixel_hidden,
        sampled_points=SAMPLED_POINTS,
        queries=prod(cells) if cells else queries,
        query_layers=size.query_layers,
        query_hidden=size.query_hidden,
        cells=cells,
    )


def _build(plan: QueryNetworkPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.mask_queries import MaskQueries  # torch takes seconds to import

    return MaskQueries(plan, in_channels, class_count)


def _levels_from_output(plan: QueryNetworkPlan, name: str) -> int | None:
    """Both decoders, then the encoder from its last stage to its first."""
    if not name.startswith(("stem.", "encoder.")):
        return 0
    match = STAGE.match(name)
    return len(plan.stages) - (int(match[1]) if match else 0)


_COST = traced_cost_of(_build)
MASK_QUERIES = Family(
    build=_build,
    search=search_by(plan_mask_queries, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=lambda plan, name: name == "stem.conv.weight",
    gives_outputs=lambda plan, name: name.startswith("decoder.classes."),
    same_at_any_size=False,
    built_in=True,
)
