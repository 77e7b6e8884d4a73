"""Model files: a configuration and its weights in one safetensors file, and nothing to execute."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.plan import Configuration
from autoseg.records import Record, parse_record, replacing
from autoseg.version import __version__

FORMAT_VERSION = 2
METADATA_KEY = "autoseg"


class ModelCard(Record):
    """All that is needed to use a model, besides its weights."""

    format_version: int = FORMAT_VERSION
    autoseg_version: str = __version__
    plan_name: str
    configuration: Configuration
    labels: LabelScheme
    channel_names: tuple[str, ...]
    fold: int | None  # None: trained on every case
    trained_cases: int
    trained_iterations: int
    trained_seconds: float
    held_out: tuple[str, ...] = ()  # cases of the fold that it has not been trained on
    chosen_on_validation: bool = False  # the best of many by its held-out cases, so not to compare


def build_network(model: ModelPlan) -> nn.Module:
    """The untrained network of a model, initialised from torch's random state."""
    build = family_of(model.network.kind).build
    return build(model.network, len(model.channel_names), model.task.outputs)


def save_model(path: Path, network: nn.Module, card: ModelCard) -> None:
    """Write weights and card as one safetensors file, atomically."""
    tensors = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    save_tensors(path, tensors, {METADATA_KEY: card.model_dump_json()})


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and strings as one safetensors file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    with replacing(path) as temporary:
        # Not save_file: it makes files that other users may not read.
        temporary.write_bytes(save(contiguous, metadata))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors, on the CPU, and strings of a safetensors file.

    Raises AutosegError when it is absent or none.
    """
    with _opened(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """The strings of a safetensors file. Raises AutosegError when it is absent or none."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        raise AutosegError(f"{path}: a folder. Name the .safetensors files in it.")
    if not path.is_file():
        raise AutosegError(f"{path}: this model file does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise AutosegError(
            f"{path}: not a readable model file ({error}). An autoseg model is a .safetensors file "
            "written by autoseg train; autoseg import nnunet makes them of nnU-Net's folders."
        ) from None


def read_card(path: Path) -> ModelCard:
    """What a model file says of itself. Raises AutosegError as `load_model` does."""
    return _card(path, read_metadata(path))


def load_model(path: Path) -> tuple[ModelCard, nn.Module]:
    """Read a model file and build its network, ready to predict, on the CPU.

    Raises AutosegError when the file is none of autoseg's, is of a newer format, or its weights do
    not fit its configuration.
    """
    tensors, metadata = read_tensors(path)
    card = _card(path, metadata)
    network = build_network(card.configuration.model)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise AutosegError(f"{path}: weights do not fit the configuration: {error}") from None
    return card, network.eval()


def _card(path: Path, metadata: dict[str, str]) -> ModelCard:
    if METADATA_KEY not in metadata:
        raise AutosegError(
            f"{path}: a safetensors file, but not one of autoseg's: its metadata has no "
            f"{METADATA_KEY!r} entry. Give a model written by autoseg train."
        )
    try:
        content = json.loads(metadata[METADATA_KEY])
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise AutosegError(f"{path}: damaged; its {METADATA_KEY!r} entry cannot be read.")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        older = isinstance(version, int) and version < FORMAT_VERSION
        remedy = "Train or import it again" if older else "Upgrade autoseg"
        raise AutosegError(
            f"{path}: model format {version} is not the one that autoseg {__version__} knows "
            f"({FORMAT_VERSION}). {remedy}."
        )
    return parse_record(ModelCard, content, str(path))
