"""The U-Nets as families: all that planning asks about them, without torch."""

import re
from typing import TYPE_CHECKING

from autoseg.networks.family import Build, Family
from autoseg.networks.unet_cost import unet_cost
from autoseg.planning.network_plan import UNetPlan
from autoseg.planning.search import search_unet
from autoseg.planning.stage_plan import stride_of

if TYPE_CHECKING:
    from torch import nn

PART = re.compile(r"(stem|encoder|decoder)\.?(?:(?:upsample|stages|heads)\.)?(\d*)")
HEADS = "decoder.heads."


def unet_family(build: Build, first_layer: str) -> Family:
    """U-Nets that differ in their blocks; `first_layer` begins the names of what sees the image."""
    return Family(
        build=build,
        search=search_unet,
        patch_divisor=lambda plan: stride_of(plan.stages),
        cost=unet_cost,
        levels_from_output=_levels_from_output,
        sees_inputs=lambda plan, name: name == f"{first_layer}.conv.weight",
        gives_outputs=lambda plan, name: name.startswith(HEADS),
        same_at_any_size=True,
        built_in=True,
    )


def _levels_from_output(plan: UNetPlan, name: str) -> int | None:
    """Along the U's two arms: from the output down the decoder, and up the encoder."""
    match = PART.match(name)
    if match is None:
        return None
    level = int(match[2] or 0)
    return level if match[1] == "decoder" else 2 * (len(plan.stages) - 1) - level


def _plain(plan: UNetPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.unet import PlainUNet  # torch takes seconds to import

    return PlainUNet(plan, in_channels, class_count)


def _residual(plan: UNetPlan, in_channels: int, class_count: int) -> "nn.Module":
    from autoseg.networks.unet import ResidualUNet

    return ResidualUNet(plan, in_channels, class_count)


PLAIN_UNET = unet_family(_plain, "encoder.0.0")
RESIDUAL_UNET = unet_family(_residual, "stem")
