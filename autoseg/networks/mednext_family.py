"""MedNeXt as a family: what planning asks about it, without torch."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import MedNeXtPlan, MedNeXtStage, PerAxis
from autoseg.planning.search import PatchSearch
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import Topology

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Published:
    """Expansions and blocks, from the encoder's highest resolution through the lowest and up."""

    expansions: tuple[int, ...]
    blocks: tuple[int, ...]


RISING = (2, 3, 4, 4, 4, 4, 4, 3, 2)
STEEP = (3, 4, 8, 8, 8, 8, 8, 4, 3)
SIZES = {
    "s": Published((2,) * 9, (2,) * 9),
    "b": Published(RISING, (2,) * 9),
    "m": Published(RISING, (3, 4, 4, 4, 4, 4, 4, 4, 3)),
    "l": Published(STEEP, STEEP),
}
MOST_STAGES = 5
PART = re.compile(r"(encoder|down|up|decoder|heads)\.(\d+)")


def plan_mednext(topology: Topology, patch: PerAxis, search: PatchSearch) -> MedNeXtPlan:
    """A published size with at most five stages, whose strides follow spacing and patch."""
    settings = search.network
    size = SIZES[settings.size_of(SIZES)]
    stages = stages_of(size, topology, settings.base_features, settings.kernel_edge)
    return MedNeXtPlan(stages=stages, deep_supervision=settings.deep_supervision)


def stages_of(
    size: Published, topology: Topology, base_features: int, kernel_edge: int
) -> tuple[MedNeXtStage, ...]:
    """Stages of a size, whose lowest is the published lowest, however many there are."""
    strides = topology.strides[:MOST_STAGES]
    lowest = len(strides) - 1
    stages = []
    for index, (stride, kernel) in enumerate(zip(strides, topology.kernel_sizes, strict=False)):
        down = index if index < lowest else MOST_STAGES - 1
        up = 2 * (MOST_STAGES - 1) - down
        stages.append(
            MedNeXtStage(
                features=base_features * 2**index,
                kernel_size=tuple(kernel_edge if k > 1 else 1 for k in kernel),
                stride=stride,
                blocks=size.blocks[down],
                decoder_blocks=size.blocks[up] if index < lowest else 0,
                expansion=size.expansions[down],
                decoder_expansion=size.expansions[up],
            )
        )
    return tuple(stages)


def _build(plan: MedNeXtPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.mednext import MedNeXt  # torch takes seconds to import

    return MedNeXt(plan, in_channels, class_count)


def _levels_from_output(plan: MedNeXtPlan, name: str) -> int | None:
    """Along the U's two arms: from the output down the decoder, and up the encoder."""
    match = PART.match(name)
    level = int(match[2]) if match else 0
    if match and match[1] in ("up", "decoder", "heads"):
        return level
    return 2 * (len(plan.stages) - 1) - level


def _with_larger_kernels(given: "torch.Tensor", wanted: "torch.Size") -> "torch.Tensor | None":
    from autoseg.networks.mednext import with_larger_kernels

    return with_larger_kernels(given, wanted)


_COST = traced_cost_of(_build)
MEDNEXT = Family(
    build=_build,
    search=search_by(plan_mednext, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=lambda plan, name: name == "stem.weight",
    gives_outputs=lambda plan, name: name.startswith("heads."),
    same_at_any_size=True,
    built_in=True,
    adapted=_with_larger_kernels,
)
