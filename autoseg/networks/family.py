"""What a kind of network must bring, and how every network is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoseg.planning.cost import NetworkCost
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.network_plan import NetworkPlan
from autoseg.planning.search import FoundPatch, PatchSearch

if TYPE_CHECKING:  # plans are made of families that build nothing: torch takes seconds to import
    import torch
    from torch import nn

Build = Callable[[Any, int, int], "nn.Module"]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of network, as one entry of a table.

    Its functions take plans of its own record, which `planning/network_plan.py` finds by the kind.
    `build` makes one for so many input channels and outputs, initialised from torch's random state.
    It takes images [batch, channel, *patch] and gives logits [batch, output, *patch]; if its plan
    says `deep_supervision` it also takes `all_resolutions=True`, and then gives a list of what its
    task learns from: logits, highest resolution first, or what is more than them. `search` fills
    the memory to plan for with a patch and a network. A patch must be a multiple of the
    `patch_divisor`, per axis.

    `levels_from_output` says how many resolutions lie between a parameter and the output, for
    learning rates that differ by layer; `sees_inputs` which parameters [feature, channel, *kernel]
    look at the input channels, and `gives_outputs` which [output, ...] make the outputs, so that
    both can be matched by name; None: nobody knows. `same_at_any_size`: it does the same with a
    small input as with a patch. `adapted` makes weights of another shape fit, where that is known;
    it gives None where it is not. What is compiled of a `built_in` network may be kept.
    """

    build: Build
    search: Callable[[PatchSearch], FoundPatch]
    patch_divisor: Callable[[Any], tuple[int, ...]]
    cost: Callable[[ModelPlan], NetworkCost]
    levels_from_output: Callable[[Any, str], int | None]
    sees_inputs: Callable[[Any, str], bool] | None
    gives_outputs: Callable[[Any, str], bool] | None
    same_at_any_size: bool
    built_in: bool
    adapted: "Callable[[torch.Tensor, torch.Size], torch.Tensor | None] | None" = None


def all_outputs(network: "nn.Module", image: "torch.Tensor", plan: NetworkPlan) -> "list[Any]":
    """What the network's task learns from: logits of every resolution that it was planned to give,
    highest first, or what the family says."""
    # Networks of other packages need not know of deep supervision.
    logits = network(image, all_resolutions=True) if plan.deep_supervision else network(image)
    return logits if isinstance(logits, list) else [logits]
