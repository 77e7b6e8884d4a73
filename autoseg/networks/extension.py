"""Networks of other packages, known by no more than a function that builds them."""

from typing import Any

from autoseg.networks.family import Build, Family
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan
from autoseg.planning.network_plan import NetworkPlan
from autoseg.planning.search import FoundPatch, PatchSearch, shrink_to_fit, unet_of
from autoseg.planning.stage_plan import stride_of


def extension_family(registered: Any) -> Family:
    """A package's own Family, or one around its `build(plan, channels, outputs)`.

    It is planned as a U-Net is, with memory that is traced from the network itself.
    """
    if isinstance(registered, Family):
        return registered
    from autoseg.networks.tracing import trace, traced_cost  # torch takes seconds to import

    build: Build = registered

    def search(wanted: PatchSearch) -> FoundPatch:
        def elements(network: NetworkPlan, patch: tuple[int, ...]) -> int:
            model = ModelPlan(
                patch_size_vox=patch,
                inputs=(ScanInput(channels=tuple(map(str, range(wanted.channels)))),),
                network=network,
                task=SemanticPlan(classes=wanted.outputs),
            )
            return trace(build, model).elements

        return shrink_to_fit(wanted, unet_of, elements)

    return Family(
        build=build,
        search=search,
        patch_divisor=lambda plan: stride_of(plan.stages),
        cost=traced_cost(build),
        levels_from_output=lambda plan, name: None,
        sees_inputs=None,
        gives_outputs=None,
        same_at_any_size=False,
        built_in=False,
    )
