"""FCNs as a family: what planning asks about them, without torch."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import FCNPlan, StagePlan
from autoseg.planning.search import PatchSearch, unet_of
from autoseg.planning.stage_plan import stride_of
from autoseg.planning.topology import Topology

if TYPE_CHECKING:
    from torch import nn

STAGE = re.compile(r"encoder\.(\d+)\.")
FINEST = {"32s": 32, "16s": 16, "8s": 8, "4s": 4, "2s": 2}  # strides of the last scores, by size
LEAST_SKIPS = {"32s": 0, "16s": 1}  # of encoders that are less deep than the published one


def plan_fcn(topology: Topology, patch: tuple[int, ...], search: PatchSearch) -> FCNPlan:
    """The encoder of the U-Net that would be planned, and skips as the size says."""
    unet, settings = unet_of(topology, patch, search), search.network
    return FCNPlan(
        stages=tuple(s.model_copy(update={"decoder_blocks": 0}) for s in unet.stages),
        block="residual" if settings.residual else "plain",
        skips=skips_of(settings.size_of(FINEST), unet.stages),
        bias=settings.bias,
    )


def skips_of(size: str, stages: Sequence[StagePlan]) -> int:
    """So many that the last scores are no coarser than the stride that a size, such as `8s`, names,
    along any axis; and as many as the size has in the paper, or two, where there are stages."""
    reached = max(
        level for level in range(len(stages)) if max(stride_of(stages[: level + 1])) <= FINEST[size]
    )
    last = len(stages) - 1
    return min(last, max(LEAST_SKIPS.get(size, 2), last - reached))


def _build(plan: FCNPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.fcn import FCN  # torch takes seconds to import

    return FCN(plan, in_channels, class_count)


def _levels_from_output(plan: FCNPlan, name: str) -> int | None:
    """Heads, then the encoder from its lowest stage up to the stem."""
    if name.startswith("heads."):
        return 0
    match = STAGE.match(name)
    return len(plan.stages) - (int(match[1]) if match else 0)


def _sees_inputs(plan: FCNPlan, name: str) -> bool:
    first = "stem" if plan.block == "residual" else "encoder.0.0"
    return name == f"{first}.conv.weight"


_COST = traced_cost_of(_build)
FCN_FAMILY = Family(
    build=_build,
    search=search_by(plan_fcn, _COST),
    patch_divisor=lambda plan: stride_of(plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=_sees_inputs,
    gives_outputs=lambda plan, name: name.startswith("heads."),
    same_at_any_size=True,
    built_in=True,
)
