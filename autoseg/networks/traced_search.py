"""Searches that fill memory by what tracing a network finds, for networks of any kind."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from autoseg.machine import GIB
from autoseg.networks.family import Build
from autoseg.planning.cost import KEPT_IN_HALF_PRECISION, WEIGHT_BYTES, NetworkCost
from autoseg.planning.model_plan import ModelPlan, ScanInput, SemanticPlan
from autoseg.planning.search import (
    FoundPatch,
    NetworkOf,
    PatchSearch,
    shrink_to_fit,
    too_little_memory,
)

ONE_VOXEL = "Expected more than 1"  # says a norm at the lowest resolution, of a single voxel
FAR = 1.5  # times what is allowed: patches this much too large are not traced each


def traced_cost_of(build: Build) -> Callable[[ModelPlan], NetworkCost]:
    """What tracing finds of networks that are built so; torch is imported when it is asked for."""

    @cache
    def traced(model: ModelPlan) -> NetworkCost:
        from autoseg.networks.tracing import trace  # torch takes seconds to import

        return trace(build, model)

    def cost(model: ModelPlan) -> NetworkCost:
        shape = NetworkShape(
            model.network, model.patch_size_vox, len(model.channel_names), model.task.outputs
        )
        return traced(shape.as_model())  # so that it is traced once, whatever channels mean

    return cost


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """All of a model that its cost depends on."""

    network: Any
    patch_size_vox: tuple[int, ...]
    channels: int
    outputs: int

    def as_model(self) -> ModelPlan:
        return ModelPlan(
            patch_size_vox=self.patch_size_vox,
            inputs=(ScanInput(channels=tuple(map(str, range(self.channels)))),),
            network=self.network,
            task=SemanticPlan(classes=self.outputs),
        )


def kept_elements(cost: NetworkCost, wanted: PatchSearch) -> float:
    """Bytes in the unit of the search: outputs of convolutions; weights are shared by a batch."""
    weights = WEIGHT_BYTES["adamw"] * cost.weights / wanted.patch.fitting_batch
    kept = cost.kept_bytes * (KEPT_IN_HALF_PRECISION if wanted.bf16 else 1)
    return (kept + weights) / GIB / wanted.gib_per_element


def search_by(
    network_of: NetworkOf[Any],
    cost: Callable[[ModelPlan], NetworkCost],
    elements_of: Callable[[NetworkCost, PatchSearch], float] = kept_elements,
) -> Callable[[PatchSearch], FoundPatch]:
    """A search for the first patch whose training fits into memory by the cost of its network, in
    the unit of the search.

    What is kept for the way back grows with the patch's voxels, or faster with attention, so that
    patches that are far too large are skipped by the last one that was traced.
    """

    def search(wanted: PatchSearch) -> FoundPatch:
        allowed = wanted.reference_elements * wanted.patch.reference_batch
        allowed /= wanted.patch.fitting_batch
        per_voxel: list[float] = []

        def elements(network: Any, patch: tuple[int, ...]) -> float:
            if per_voxel and per_voxel[-1] * prod(patch) > FAR * allowed:
                return per_voxel[-1] * prod(patch)
            shape = NetworkShape(network, patch, wanted.channels, wanted.outputs)
            model = shape.as_model()
            try:
                found = elements_of(cost(model), wanted)
            except ValueError as error:
                if not str(error).startswith(ONE_VOXEL):
                    raise
                raise too_little_memory(wanted) from error
            per_voxel.append(found / prod(patch))
            return found

        return shrink_to_fit(wanted, network_of, elements)

    return search
