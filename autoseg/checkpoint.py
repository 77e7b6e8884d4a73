"""Model files: a configuration and its weights in one safetensors file, and nothing to execute."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from autoseg.dataset.labels import LabelScheme
from autoseg.errors import AutosegError
from autoseg.networks import family_of
from autoseg.planning.model_plan import ModelPlan
from autoseg.planning.plan import Configuration
from autoseg.postprocessing.recipe import Recipe
from autoseg.records import Record, parse_record, replacing
from autoseg.version import __version__

FORMAT_VERSION = 2
METADATA_KEY = "autoseg"
PACK_KEY = "autoseg_pack"
PACK_VERSION = 1


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
    trained_precision: Literal["fp32", "bf16", "fp16"] | None = None  # None: of another program
    chosen_on_validation: bool = False  # the best of many by its held-out cases, so not to compare


class PackedModel(Record):
    """One of a pack: its card, blake2b of the file that it came from, and of its weights."""

    card: ModelCard
    file_hash: str
    weights_hash: str


class PackCard(Record):
    """Several models in one file, by the prefix of their tensors, and how they are used.

    `selection` is the record of why, which nothing but a reader needs.
    """

    format_version: int = PACK_VERSION
    autoseg_version: str = __version__
    models: dict[str, PackedModel]
    recipe: Recipe = Recipe()
    selection: Any = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model is: a file of its own, or under a prefix in a pack."""

    path: Path
    card: ModelCard
    prefix: str = ""
    packed: PackedModel | None = None

    def __str__(self) -> str:
        return f"{self.path} ({self.prefix})" if self.prefix else str(self.path)


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


def read_sources(path: Path) -> tuple[list[ModelSource], Recipe | None]:
    """The models of a file, and of a pack how they are used. Raises AutosegError as `load_model`
    does."""
    metadata = read_metadata(path)
    if PACK_KEY not in metadata:
        return [ModelSource(path, _card(path, metadata))], None
    pack = _pack_card(path, metadata)
    sources = [ModelSource(path, m.card, prefix, m) for prefix, m in pack.models.items()]
    return sources, pack.recipe


def load_source(source: ModelSource) -> tuple[nn.Module, str]:
    """Build a model's network, ready to predict, on the CPU; and the hash of its file.

    Raises AutosegError as `load_model` does, and where a pack's weights are not those packed.
    """
    if source.packed is None:
        return load_model(source.path)[1], content_hash(source.path.read_bytes())
    tensors = _tensors_under(source.path, source.prefix)
    if weights_hash(tensors) != source.packed.weights_hash:
        raise AutosegError(f"{source}: damaged; its weights are not those that were packed.")
    return _network(str(source), source.card, tensors), source.packed.file_hash


def save_pack(
    path: Path, models: Mapping[str, Path], recipe: Recipe, selection: Any = None
) -> PackCard:
    """Write models, by the prefix that their tensors get, as one safetensors file, atomically."""
    tensors: dict[str, torch.Tensor] = {}
    packed = {}
    for prefix, model in models.items():
        own, metadata = read_tensors(model)
        packed[prefix] = PackedModel(
            card=_card(model, metadata),
            file_hash=content_hash(model.read_bytes()),
            weights_hash=weights_hash(own),
        )
        tensors |= {f"{prefix}/{key}": value for key, value in own.items()}
    card = PackCard(models=packed, recipe=recipe, selection=selection)
    save_tensors(path, tensors, {PACK_KEY: card.model_dump_json()})
    return card


def content_hash(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of names, types, shapes and values, in the order of the names."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(path: Path) -> tuple[ModelCard, nn.Module]:
    """Read a model file and build its network, ready to predict, on the CPU.

    Raises AutosegError when the file is none of autoseg's, is of a newer format, or its weights do
    not fit its configuration.
    """
    tensors, metadata = read_tensors(path)
    card = _card(path, metadata)
    return card, _network(str(path), card, tensors)


def _network(where: str, card: ModelCard, tensors: dict[str, torch.Tensor]) -> nn.Module:
    network = build_network(card.configuration.model)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise AutosegError(
            f"{where}: weights do not fit the configuration: {error} It was made by autoseg "
            f"{card.autoseg_version}; use that version, or train the model anew."
        ) from None
    return network.eval()


def _tensors_under(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """One model's tensors out of a pack, without reading the others'."""
    start = f"{prefix}/"
    with _opened(path) as file:
        names = [key for key in file.keys() if key.startswith(start)]  # noqa: SIM118
        return {key.removeprefix(start): file.get_tensor(key) for key in names}


def _pack_card(path: Path, metadata: dict[str, str]) -> PackCard:
    content = _content(path, metadata, PACK_KEY)
    _check_version(path, "pack", content.get("format_version"), PACK_VERSION)
    card = parse_record(PackCard, content, str(path))
    for prefix, model in card.models.items():
        _check_version(path, f"model {prefix}", model.card.format_version, FORMAT_VERSION)
    return card


def _card(path: Path, metadata: dict[str, str]) -> ModelCard:
    if PACK_KEY in metadata:
        count = len(_pack_card(path, metadata).models)
        raise AutosegError(
            f"{path}: a pack of {count} models, and this takes models one by one. `autoseg predict "
            "--model` takes packs; give a model.safetensors of a fold here."
        )
    if METADATA_KEY not in metadata:
        raise AutosegError(
            f"{path}: a safetensors file, but not one of autoseg's: its metadata has no "
            f"{METADATA_KEY!r} entry. Give a model written by autoseg train."
        )
    content = _content(path, metadata, METADATA_KEY)
    _check_version(path, "model", content.get("format_version"), FORMAT_VERSION)
    return parse_record(ModelCard, content, str(path))


def _content(path: Path, metadata: dict[str, str], key: str) -> dict[str, Any]:
    try:
        content = json.loads(metadata[key])
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise AutosegError(f"{path}: damaged; its {key!r} entry cannot be read.")
    return content


def _check_version(path: Path, what: str, version: Any, known: int) -> None:
    if version == known:
        return
    older = isinstance(version, int) and version < known
    remedy = "Train or import it again" if older else "Upgrade autoseg"
    raise AutosegError(
        f"{path}: {what} format {version} is not the one that autoseg {__version__} knows "
        f"({known}). {remedy}."
    )
