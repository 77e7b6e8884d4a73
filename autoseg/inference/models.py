"""Model files that predict together: folds, stages of a cascade, and configurations."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg import networks
from autoseg.checkpoint import ModelCard, load_model, read_card
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.geometry import Placement
from autoseg.inference.engines import ENGINES, EngineName, RunOrder
from autoseg.inference.ensemble import Ensemble
from autoseg.inference.memory import Footprint
from autoseg.inference.restore import Block, Column, Span, interpolation_matrices, restored_blocks
from autoseg.inference.sliding_window import Economy, Engine, predict_logits
from autoseg.networks import NETWORKS
from autoseg.networks.one_hot import one_hot


@dataclass(frozen=True, slots=True)
class Stack:
    """A scan on a configuration's grid: image [channel, z, y, x], and the previous stage's mask."""

    image: NDArray[np.float32]
    placement: Placement
    previous: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Models of one configuration, averaged; `previous` predicts the stage before it, if any."""

    card: ModelCard
    ensemble: Ensemble
    hashes: tuple[str, ...]  # blake2b of each model file
    previous: "ModelGroup | None" = None

    @property
    def outputs(self) -> int:
        return self.card.labels.output_count + self.ensemble.shows_disagreement

    @property
    def all_hashes(self) -> tuple[str, ...]:
        """Those of the stage before it first."""
        return (*(self.previous.all_hashes if self.previous else ()), *self.hashes)

    def showing_disagreement(self) -> "ModelGroup":
        """The same models, with the share of them that disagree as a further output."""
        return replace(self, ensemble=replace(self.ensemble, shows_disagreement=True))

    def footprint(self, placement: Placement) -> Footprint:
        """What a scan takes that was put on this configuration's grid."""
        configuration = self.card.configuration
        compared = len(self.hashes) if self.ensemble.shows_disagreement else 0
        return Footprint(
            configuration=configuration,
            placement=placement,
            channels=_input_channels(self.card),
            outputs=self.outputs,
            compared_models=compared,
            matrices=interpolation_matrices(placement, configuration.resampling),
        )

    def blocks(
        self, stack: Stack, columns: Sequence[Column], rows: int, economy: Economy, device: Device
    ) -> Iterator[Block]:
        """Mean logits on the source's resolution, block after block of its crop."""
        configuration = self.card.configuration
        image = torch.from_numpy(stack.image).to(economy.sums_on)
        ensemble = replace(self.ensemble, inputs_at_once=economy.inputs_at_once)

        def run(patches: torch.Tensor) -> torch.Tensor:
            return ensemble(patches.to(device.torch_device))

        engine: Engine = run
        if stack.previous is not None:
            mask = torch.from_numpy(stack.previous).to(image)
            image = torch.cat((image, mask[None]))
            engine = _expanding(engine, len(self.card.labels.values) - 1)

        def predict(y: Span, x: Span) -> Iterator[torch.Tensor]:
            return predict_logits(
                image, engine, configuration.patch_box_vox, configuration.inference, (y, x), economy
            )

        return restored_blocks(predict, stack.placement, configuration.resampling, columns, rows)


def load_groups(
    paths: Sequence[Path], device: Device, engine: EngineName, cache: Path | None
) -> tuple[ModelGroup, ...]:
    """The groups that decide together; first stages are behind their second ones.

    Raises AutosegError when a stage is missing, or labels, channels or axes of models differ.
    """
    if not paths:
        raise AutosegError("no model file is named.")
    cards = {path: read_card(path) for path in paths}
    _check_alike(cards)
    together: list[list[Path]] = []
    for path, card in cards.items():
        for members in together:
            if cards[members[0]].configuration == card.configuration:
                members.append(path)
                break
        else:
            together.append([path])
    groups = [_load_group(members, device, engine, cache) for members in together]
    chosen = []
    firsts: set[int] = set()
    for group, members in zip(groups, together, strict=True):
        needed = group.card.configuration.previous_stage
        if needed is None:
            continue
        index = _first_stage(groups, group.card.plan_name, needed, members[0])
        firsts.add(index)
        chosen.append(replace(group, previous=groups[index]))
    alone = [
        group
        for index, group in enumerate(groups)
        if group.card.configuration.previous_stage is None and index not in firsts
    ]
    return (*alone, *chosen)


def _first_stage(
    groups: Sequence[ModelGroup], plan_name: str, configuration: str, second: Path
) -> int:
    """Which of the groups predicts what a cascade's second stage sees."""
    found = [
        index
        for index, group in enumerate(groups)
        if (group.card.plan_name, group.card.configuration.name) == (plan_name, configuration)
    ]
    if len(found) == 1:
        return found[0]
    what = f"{configuration} beside it, of the same plan ({plan_name})"
    if not found:
        raise AutosegError(
            f"{second}: the second stage of a cascade, which needs a model of {what}. Give both "
            "with --model."
        )
    raise AutosegError(
        f"{second}: the second stage of a cascade, but there are different models of {what}. Give "
        "those that were trained alike."
    )


def _check_alike(cards: dict[Path, ModelCard]) -> None:
    """Raise AutosegError when models do not answer the same question about the same voxels."""
    (first_path, first), *others = cards.items()
    for path, card in others:
        if (card.labels, card.channel_names) != (first.labels, first.channel_names):
            raise AutosegError(
                f"{path} is of other labels or channels than {first_path}, so they cannot be "
                "averaged. Give models of one dataset."
            )
        own, other = card.configuration, first.configuration
        if (own.orientation, own.axis_order) != (other.orientation, other.axis_order):
            raise AutosegError(
                f"{path} sees scans along other axes than {first_path}, so they cannot be "
                "averaged. Give models of plans that order axes alike."
            )


def _load_group(
    paths: Sequence[Path], device: Device, engine: EngineName, cache: Path | None
) -> ModelGroup:
    loaded = [load_model(path) for path in paths]
    card = loaded[0][0]
    configuration = card.configuration
    hashes = tuple(content_hash(path.read_bytes()) for path in paths)
    if len(set(hashes)) < len(hashes):
        raise AutosegError(
            f"{', '.join(map(str, paths))}: some of them are the same model. Name each once."
        )
    orders = [
        RunOrder(
            network=network,
            device=device,
            patch_shape=(_input_channels(card), *configuration.patch_size_vox),
            example_shape=_example_shape(card),
            key=f"{key} {_network_code()}",
            cache=cache if configuration.network.kind in NETWORKS else None,
        )
        for (_, network), key in zip(loaded, hashes, strict=True)
    ]
    ensemble = Ensemble(
        runners=tuple(ENGINES[engine](order) for order in orders),
        spatial_dims=configuration.spatial_dims,
        mirror_axes=configuration.inference.mirror_axes,
        decides_regions=bool(card.labels.regions),
    )
    return ModelGroup(card, ensemble, hashes)


def _input_channels(card: ModelCard) -> int:
    """Those of the scan, and of the previous stage's mask."""
    cascaded = card.configuration.previous_stage is not None
    return len(card.channel_names) + cascaded * (len(card.labels.values) - 1)


def _example_shape(card: ModelCard) -> tuple[int, ...]:
    """A small input that the network does the same with as with a patch: ours have no favourites.

    Two voxels at the lowest resolution, for a single one cannot be normalised.
    """
    plan = card.configuration
    if plan.network.kind in NETWORKS:
        return (_input_channels(card), *(2 * divisor for divisor in plan.network.patch_divisor))
    return (_input_channels(card), *plan.patch_size_vox)


@lru_cache
def _network_code() -> str:
    """Stands for the code of networks: what was compiled of older code must not be run."""
    files = sorted(Path(networks.__path__[0]).glob("*.py"))
    return content_hash(b"".join(file.read_bytes() for file in files))


def content_hash(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _expanding(engine: Engine, foreground_classes: int) -> Engine:
    """An engine for patches whose last channel holds class indices, which networks see one by one.

    Patch by patch, since a whole scan with a channel for every class may not fit into memory.
    """

    def run(patches: torch.Tensor) -> torch.Tensor:
        masks = one_hot(patches[:, -1], foreground_classes)
        return engine(torch.cat((patches[:, :-1], masks), dim=1))

    return run
