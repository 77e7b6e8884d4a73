"""FCNs as a family: what planning asks about them, without torch."""

import re
from typing import TYPE_CHECKING

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.network_plan import FCNPlan
from autoseg.planning.search import PatchSearch, unet_of
from autoseg.planning.topology import Topology, divisor_of

if TYPE_CHECKING:
    from torch import nn

STAGE = re.compile(r"encoder\.(\d+)\.")
SKIPS = {"32s": 0, "16s": 1, "8s": 2}  # by size: 8s looks at three stages


def plan_fcn(topology: Topology, patch: tuple[int, ...], search: PatchSearch) -> FCNPlan:
    """The encoder of the U-Net that would be planned; `32s`, `16s` or `8s` say how many skips."""
    unet, settings = unet_of(topology, patch, search), search.network
    return FCNPlan(
        stages=tuple(s.model_copy(update={"decoder_blocks": 0}) for s in unet.stages),
        block="residual" if settings.residual else "plain",
        skips=min(SKIPS[settings.size_of(SKIPS)], len(unet.stages) - 1),
        bias=settings.bias,
    )


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
    patch_divisor=lambda plan: divisor_of(stage.stride for stage in plan.stages),
    cost=_COST,
    levels_from_output=_levels_from_output,
    sees_inputs=_sees_inputs,
    gives_outputs=lambda plan, name: name.startswith("heads."),
    same_at_any_size=True,
    built_in=True,
)
