"""Starting from weights that others published."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoseg.checkpoint import METADATA_KEY, PACK_KEY, read_tensors
from autoseg.errors import AutosegError
from autoseg.networks.published_weights import PUBLICATIONS, converted

SHOWN = 4
PICKLED = (".pth", ".pt", ".bin")  # which torch reads without running what they hold
INNER = ("state_dict", "model", "model_state")  # where some files have their weights


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
            ("adapted to other channels, labels or kernels", self.adapted),
            ("left as they were initialised", self.left),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {what}: {', '.join(names[:SHOWN])}{more}")
        return "\n".join(lines)


def is_published(model: Path) -> bool:
    """Whether a file holds weights of others, and says nothing of autoseg."""
    if model.suffix in PICKLED:
        return True
    _, metadata = read_tensors(model)
    return METADATA_KEY not in metadata and PACK_KEY not in metadata


def initialize_from_published(network: nn.Module, kind: str, model: Path) -> Initialization:
    """Load what fits of weights that others published for a kind of network.

    Raises AutosegError when none are known for it, the file holds no weights, or none of them fit.
    """
    publication = PUBLICATIONS.get(kind)
    if publication is None:
        known = ", ".join(f"{p.name} for {k}" for k, p in PUBLICATIONS.items())
        raise AutosegError(
            f"{model}: no model of autoseg, and of {kind} no published weights are known. There "
            f"are: {known}."
        )
    own = network.state_dict()
    published = _read(model)
    found = converted(published, own, publication)
    if not found:
        raise AutosegError(
            f"{model}: not one of its weights fits the planned {kind}. It takes weights of "
            f"{publication.name}, of the size that is planned."
        )
    shapes = {publication.our_name(theirs): weight.shape for theirs, weight in published.items()}
    adapted = tuple(name for name in found if shapes[name] != own[name].shape)
    network.load_state_dict({**own, **found})
    return Initialization(
        model,
        loaded=tuple(name for name in found if name not in adapted),
        adapted=adapted,
        left=tuple(name for name in own if name not in found),
    )


def _read(model: Path) -> dict[str, torch.Tensor]:
    if model.suffix not in PICKLED:
        return read_tensors(model)[0]
    try:
        content: Any = torch.load(model, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise AutosegError(
            f"{model}: it cannot be read as weights alone ({str(error).splitlines()[0]}). Give a "
            "file of weights, best in safetensors."
        ) from None
    for key in INNER:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise AutosegError(f"{model}: it holds no weights by name.")
    return {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
