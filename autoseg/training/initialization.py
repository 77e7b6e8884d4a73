"""Starting from a model: what fits is loaded, first and last layers adapted, the rest is new."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from autoseg.checkpoint import ModelCard, read_card, read_tensors
from autoseg.errors import AutosegError

SHOWN = 4
MASK = "mask of "


@dataclass(frozen=True, slots=True)
class Initialization:
    """Names of weights: loaded as they are, adapted to other channels or labels, and left new."""

    model: Path
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    left: tuple[str, ...]

    def text(self) -> str:
        """All of it in a few lines."""
        lines = [f"Started from {self.model}: {len(self.loaded)} weights loaded"]
        for what, names in (
            ("adapted to other channels or labels", self.adapted),
            ("left as they were initialised", self.left),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {what}: {', '.join(names[:SHOWN])}{more}")
        return "\n".join(lines)


def initialize_from(network: nn.Module, card: ModelCard, model: Path) -> Initialization:
    """Load a model's weights into the network that `card` describes.

    Input channels and labels are matched by name. A channel that the model does not know begins as
    the mean of those that it knows; an output that it does not know stays as it was initialised.
    Raises AutosegError when not one weight fits.
    """
    source = read_card(model)
    tensors, _ = read_tensors(model)
    loaded, adapted, left = [], [], []
    own = network.state_dict()
    first = next(iter(own))  # the convolution that sees the image
    for name, weight in own.items():
        given, changed = tensors.get(name), None
        if given is not None and _is_head(name) and _outputs(source) != _outputs(card):
            changed = _by_name(weight, given, _outputs(card), _outputs(source))
        elif given is not None and name == first and _inputs(source) != _inputs(card):
            changed = _first_layer(given, _inputs(card), _inputs(source))
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


def _is_head(name: str) -> bool:
    return name.startswith("decoder.heads.")


def _inputs(card: ModelCard) -> tuple[str, ...]:
    """The names of a network's input channels."""
    names = [name.casefold() for name in card.channel_names]
    if card.configuration.previous_stage is not None:
        names += [f"{MASK}{name}" for name in card.labels.names[1:]]
    return tuple(names)


def _outputs(card: ModelCard) -> tuple[str, ...]:
    regions = card.labels.regions
    names = [region.name for region in regions] if regions else card.labels.names
    return tuple(name.casefold() for name in names)


def _first_layer(
    given: torch.Tensor, names: tuple[str, ...], known: tuple[str, ...]
) -> torch.Tensor:
    """Weights [feature, channel, *kernel] for other channels, or renamed ones.

    What a cascade adds begins at 0, so that the network is at first what it was.
    """
    if len(names) == len(known) and not set(names) & set(known):
        return given
    mean = given.mean(dim=1)
    new = {name: torch.zeros_like(mean) if name.startswith(MASK) else mean for name in names}
    columns = [given[:, known.index(name)] if name in known else new[name] for name in names]
    return torch.stack(columns, dim=1)


def _by_name(
    weight: torch.Tensor, given: torch.Tensor, names: tuple[str, ...], known: tuple[str, ...]
) -> torch.Tensor:
    """Rows of outputs that both know taken from the model; the others as they are."""
    if given.shape[1:] != weight.shape[1:]:  # of a network of another width
        return given
    rows = [given[known.index(n)] if n in known else weight[i] for i, n in enumerate(names)]
    return torch.stack(rows)
