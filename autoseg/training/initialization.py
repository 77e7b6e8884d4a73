"""Starting from a model: what fits is loaded, first and last layers adapted, the rest is new."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoseg.checkpoint import ModelCard, read_card, read_tensors
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.networks.family import Family
from autoseg.planning.network_plan import NetworkPlan
from autoseg.training.published import (
    Initialization,
    initialize_from_published,
    is_published,
)

MASK = "mask of "


def initialize_from(network: nn.Module, card: ModelCard, model: Path) -> Initialization:
    """Load a model's weights into the network that `card` describes.

    Input channels and labels are matched by name. A channel that the model does not know begins as
    the mean of those that it knows; an output that it does not know stays as it was initialised.
    Raises AutosegError when not one weight fits, or when channels or labels differ in a network
    whose first and last layers are not known.
    """
    plan = card.configuration.model.network
    if is_published(model):
        return initialize_from_published(network, plan.kind, model)
    source = read_card(model)
    tensors, _ = read_tensors(model)
    family = family_of(plan.kind)
    inputs, outputs = (
        _Names(_inputs(card), _inputs(source)),
        _Names(_outputs(card), _outputs(source)),
    )
    _check_layers_are_known(family, inputs, outputs, card, model)
    loaded, adapted, left = [], [], []
    own = network.state_dict()
    for name, weight in own.items():
        given, changed = tensors.get(name), None
        if given is not None and outputs.differ and _is(family.gives_outputs, plan, name):
            changed = _by_name(weight, given, outputs)
        elif given is not None and inputs.differ and _is(family.sees_inputs, plan, name):
            changed = _first_layer(given, inputs)
        elif given is not None and given.shape != weight.shape and family.adapted is not None:
            changed = family.adapted(given, weight.shape)
        if changed is not None and changed.shape == weight.shape:
            own[name] = changed
            adapted.append(name)
        elif given is not None and changed is None and given.shape == weight.shape:
            own[name] = given
            loaded.append(name)
        else:
            left.append(name)
    if not loaded:
        raise AutosegError(
            f"{model}: not one of its weights fits the planned network. Plan with --like {model}, "
            "which keeps its network."
        )
    network.load_state_dict(own)
    return Initialization(model, tuple(loaded), tuple(adapted), tuple(left))


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of a network's channels or outputs, and of those that the model has."""

    own: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def differ(self) -> bool:
        return self.own != self.known


def _check_layers_are_known(
    family: Family, inputs: _Names, outputs: _Names, card: ModelCard, model: Path
) -> None:
    """Refuse to load heads that have moved without anyone knowing which they are."""
    for names, layer, what in (
        (inputs, family.sees_inputs, "channels"),
        (outputs, family.gives_outputs, "labels"),
    ):
        if names.differ and layer is None:
            raise AutosegError(
                f"{model}: its {what} are {', '.join(names.known)}, those of the plan "
                f"{', '.join(names.own)}, and it is not known which layer of "
                f"{card.configuration.model.network.kind} they are in. Start from a model with the "
                f"same {what} in the same order."
            )


def _is(layer: Callable[[Any, str], bool] | None, plan: NetworkPlan, name: str) -> bool:
    return layer is not None and layer(plan, name)


def _inputs(card: ModelCard) -> tuple[str, ...]:
    """The names of a network's input channels."""
    return tuple(name.casefold() for name in card.configuration.model.channel_names)


def _outputs(card: ModelCard) -> tuple[str, ...]:
    regions = card.labels.regions
    names = [region.name for region in regions] if regions else card.labels.names
    return tuple(name.casefold() for name in names)


def _first_layer(given: torch.Tensor, inputs: _Names) -> torch.Tensor:
    """Weights [feature, channel, *kernel] for other channels, or renamed ones.

    What a cascade adds begins at 0, so that the network is at first what it was.
    """
    names, known = inputs.own, inputs.known
    if len(names) == len(known) and not set(names) & set(known):
        return given
    mean = given.mean(dim=1)
    new = {name: torch.zeros_like(mean) if name.startswith(MASK) else mean for name in names}
    columns = [given[:, known.index(name)] if name in known else new[name] for name in names]
    return torch.stack(columns, dim=1)


def _by_name(weight: torch.Tensor, given: torch.Tensor, outputs: _Names) -> torch.Tensor:
    """Rows of outputs that both know taken from the model; the others as they are."""
    if given.shape[1:] != weight.shape[1:]:  # of a network of another width
        return given
    known = outputs.known
    rows = [given[known.index(n)] if n in known else weight[i] for i, n in enumerate(outputs.own)]
    return torch.stack(rows)
