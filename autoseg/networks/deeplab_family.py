"""DeepLabV3+ as a family: what planning asks about it, without torch."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import DeepLabPlan, DilatedStage, PerAxis, ResNetDepth
from autoseg.planning.search import PatchSearch
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import FinestStride, Topology

if TYPE_CHECKING:
    from torch import nn

DEPTHS: dict[str, ResNetDepth] = {"resnet18": 18, "resnet34": 34, "resnet50": 50}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK = {18: 1, 34: 1, 50: 4}
WIDTH = 64  # of the published stem
STEM_KERNEL = 7
PYRAMID, LOW_LEVEL, DROPOUT = 256, 48, 0.1
RATES, RATES_EDGE = (6, 12, 18), 33  # published, for maps of 33 x 33 at an output stride of 16
LAYER = re.compile(r"encoder\.layer(\d)\.")


def plan_deeplab(topology: Topology, patch: PerAxis, search: PatchSearch) -> DeepLabPlan:
    """A ResNet whose strides, up to the settings' output stride, follow spacing and patch."""
    settings = search.network
    depth = DEPTHS[settings.size_of(DEPTHS)]
    stages = stages_to(
        topology, depth, settings.output_stride, settings.base_features, settings.finest_stride
    )
    stride = stride_of(stages)
    spacing_mm = [mm * s for mm, s in zip(search.spacing_mm, stride, strict=True)]
    edges = [size // s for size, s in zip(patch, stride, strict=True)]
    scale = settings.base_features / WIDTH
    return DeepLabPlan(
        depth=depth,
        stages=stages,
        low_level=1,
        rates=pyramid_rates(edges, spacing_mm),
        pyramid_features=round(PYRAMID * scale),
        low_level_features=round(LOW_LEVEL * scale),
        separable=settings.separable,
        dropout=DROPOUT,
    )


def pyramid_rates(edges_vox: Sequence[int], spacing_mm: Sequence[float]) -> tuple[PerAxis, ...]:
    """Dilations of the pyramid per axis: alike in mm, and no further than the map's other side.

    As large against the map's longest axis as the published ones were.
    """
    longest_mm = max(edge * mm for edge, mm in zip(edges_vox, spacing_mm, strict=True))
    return tuple(
        tuple(
            max(1, min(round(rate / RATES_EDGE * longest_mm / mm), edge - 1))
            for edge, mm in zip(edges_vox, spacing_mm, strict=True)
        )
        for rate in RATES
    )


def stages_to(
    topology: Topology,
    depth: ResNetDepth,
    output_stride: int,
    base_features: int,
    finest_stride: FinestStride = 4,
) -> tuple[DilatedStage, ...]:
    """Strides and kernels of the topology for the stem, the layer after it, which may be pooled
    first, and three more; strides beyond the output stride dilate all that follows."""
    ones = (1,) * len(topology.strides[0])
    five = topology.from_finest(finest_stride)
    blocks = (0, *BLOCKS[depth])
    reached, dilation = ones, ones
    stages = []
    for index, (strides, kernel) in enumerate(zip(five.strides, five.kernel_sizes, strict=True)):
        keep = [r * s <= output_stride for r, s in zip(reached, strides, strict=True)]
        stride = tuple(s if k else 1 for s, k in zip(strides, keep, strict=True))
        dilation = tuple(d if k else d * s for d, s, k in zip(dilation, strides, keep, strict=True))
        reached = tuple(r * s for r, s in zip(reached, stride, strict=True))
        widths = base_features * 2 ** max(0, index - 1) * (BOTTLENECK[depth] if index else 1)
        if index == 0:
            kernel = tuple(STEM_KERNEL if k > 1 else 1 for k in kernel)
        stages.append(
            DilatedStage(
                features=widths,
                kernel_size=kernel,
                stride=stride,
                dilation=dilation,
                blocks=blocks[index],
                decoder_blocks=0,
            )
        )
    return tuple(stages)


def _build(plan: DeepLabPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.deeplab import DeepLabV3Plus  # torch takes seconds to import

    return DeepLabV3Plus(plan, in_channels, class_count)


def _levels_from_output(plan: DeepLabPlan, name: str) -> int | None:
    """The decoder and the pyramid, then the encoder from its last layer to its stem."""
    if not name.startswith("encoder."):
        return 0
    match = LAYER.match(name)
    return 5 - (int(match[1]) if match else 0)


_COST = traced_cost_of(_build)
DEEPLAB = Family(
    build=_build,
    search=search_by(plan_deeplab, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=lambda plan, name: name == "encoder.conv1.weight",
    gives_outputs=lambda plan, name: name.startswith("head."),
    same_at_any_size=False,
    built_in=True,
)
