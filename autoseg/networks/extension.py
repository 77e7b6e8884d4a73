"""Networks of other packages, known by no more than a function that builds them."""

from typing import Any

from autoseg.networks.family import Family
from autoseg.networks.traced_search import search_by, traced_cost_of
from autoseg.planning.search import unet_of
from autoseg.planning.stage_plan import stride_of


def extension_family(registered: Any) -> Family:
    """A package's own Family, or one around its `build(plan, channels, outputs)`.

    It is planned as a U-Net is, by what its convolutions write, traced from the network itself.
    """
    if isinstance(registered, Family):
        return registered
    cost = traced_cost_of(registered)
    return Family(
        build=registered,
        search=search_by(unet_of, cost, lambda found, _: found.elements),
        patch_divisor=lambda plan: stride_of(plan.stages),
        cost=cost,
        levels_from_output=lambda plan, name: None,
        sees_inputs=None,
        gives_outputs=None,
        same_at_any_size=False,
        built_in=False,
    )
