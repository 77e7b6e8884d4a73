"""Model files that predict together: folds, stages of a cascade, and configurations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg import networks
from autoseg.checkpoint import ModelCard, ModelSource, content_hash, load_source, read_sources
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.geometry import Placement
from autoseg.inference.columns import Footprint
from autoseg.inference.engines import ENGINES, EngineName, EngineRequest
from autoseg.inference.ensemble import Ensemble
from autoseg.inference.restore import Block, Column, Span, interpolation_matrices, restored_blocks
from autoseg.inference.sliding_window import Batching, PredictPatches, predict_logits
from autoseg.networks import family_of
from autoseg.networks.family import Family
from autoseg.networks.inputs import map_kinds, network_input
from autoseg.planning.model_plan import InputPlan, ModelPlan
from autoseg.planning.plan import InferencePlan
from autoseg.postprocessing.recipe import Recipe, member_name
from autoseg.tasks import task_of
from autoseg.tasks.task import Task


@dataclass(frozen=True, slots=True)
class GridScan:
    """A scan on a configuration's grid: image [channel, z, y, x], and the maps [z, y, x] of the
    model's other inputs by their kind."""

    image: NDArray[np.float32]
    placement: Placement
    maps: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What it takes where maps are as wide as the image."""
        return int(self.image.nbytes + len(self.maps) * self.image[0].nbytes)


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """One model of several trainings, averaged; `previous` predicts the stage before it, if any."""

    card: ModelCard
    ensemble: Ensemble
    hashes: tuple[str, ...]  # blake2b of each model file
    previous: "ModelGroup | None" = None

    @property
    def outputs(self) -> int:
        shown = int(self.ensemble.shows_disagreement)
        return self.card.configuration.model.task.outputs + shown

    @property
    def task(self) -> Task:
        """What its outputs mean; the same for all models that predict together."""
        return self.ensemble.task

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
        model = configuration.model
        compared = len(self.hashes) if self.ensemble.shows_disagreement else 0
        return Footprint(
            configuration=configuration,
            cost=family_of(model.network.kind).cost(model),
            placement=placement,
            channels=len(model.channel_names),
            outputs=self.outputs,
            compared_models=compared,
            matrices=interpolation_matrices(placement, configuration.grid.resampling),
        )

    def blocks(
        self,
        scan: GridScan,
        columns: Sequence[Column],
        rows: int,
        batching: Batching,
        device: Device,
    ) -> Iterator[Block]:
        """Mean logits on the source's resolution, block after block of its crop."""
        configuration = self.card.configuration
        model = configuration.model
        image = torch.from_numpy(scan.image).to(batching.sums_on)
        maps = [torch.from_numpy(scan.maps[kind]).to(image) for kind in map_kinds(model.inputs)]
        if maps:
            image = torch.cat((image, torch.stack(maps)))
        ensemble = replace(self.ensemble, inputs_at_once=batching.inputs_at_once)

        def run(patches: torch.Tensor) -> torch.Tensor:
            return ensemble(patches.to(device.torch_device))

        patches_of = _expanding(run, model.inputs) if maps else run

        def predict(y: Span, x: Span) -> Iterator[torch.Tensor]:
            return predict_logits(
                image, patches_of, model.patch_box_vox, configuration.inference, (y, x), batching
            )

        resampling = configuration.grid.resampling
        return restored_blocks(predict, scan.placement, resampling, columns, rows)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where and how networks are run, and the folder where compiled ones are kept."""

    name: EngineName
    device: Device
    cache: Path | None


def sources_of(paths: Sequence[Path], recipe: Recipe | None) -> tuple[list[ModelSource], Recipe]:
    """All models of some files, and how they are used: as is asked for, or else as a pack says.

    Raises AutosegError when there is none, or a pack is not alone.
    """
    if not paths:
        raise AutosegError("no model file is named.")
    found = [read_sources(path) for path in paths]
    packs = [path for path, (_, own) in zip(paths, found, strict=True) if own is not None]
    if packs and len(paths) > 1:
        raise AutosegError(
            f"{packs[0]}: a pack holds all that predicts together. Give it alone, or model files."
        )
    sources = [source for own, _ in found for source in own]
    return sources, recipe or found[0][1] or Recipe()


def load_groups(
    sources: Sequence[ModelSource], recipe: Recipe, engine: Engine
) -> tuple[ModelGroup, ...]:
    """The groups that decide together; first stages are behind their second ones.

    Raises AutosegError when a stage is missing, or labels, channels or axes of models differ.
    """
    _check_alike(sources)
    together = _of_one_model(sources, apart=bool(recipe.members))
    groups = [_load_group(members, engine) for members in together]
    chosen = []
    firsts: set[int] = set()
    for group, members in zip(groups, together, strict=True):
        if group.card.configuration.previous_stage is not None:
            index = _first_stage(together, members[0])
            firsts.add(index)
            chosen.append(replace(group, previous=groups[index]))
    alone = [
        group
        for index, group in enumerate(groups)
        if group.card.configuration.previous_stage is None
        and (index not in firsts or _name(group.card) in recipe.members)
    ]
    return (*alone, *chosen)


def _name(card: ModelCard) -> str:
    return member_name(card.plan_name, card.configuration.name)


def _of_one_model(sources: Sequence[ModelSource], apart: bool) -> list[list[ModelSource]]:
    """Files of equal grid and model together; of second stages, those of one plan, which see what
    its own first stage finds. With `apart`, plans are never mixed."""
    together: list[list[ModelSource]] = []
    for source in sources:
        card = source.card
        for members in together:
            other = members[0].card
            same = card.configuration.is_same_model(other.configuration)
            alone = card.configuration.previous_stage is None and not apart
            if same and (alone or card.plan_name == other.plan_name):
                members.append(source)
                break
        else:
            together.append([source])
    return together


def _first_stage(together: Sequence[Sequence[ModelSource]], second: ModelSource) -> int:
    """Which of the groups predicts what a cascade's second stage sees."""
    card = second.card
    needed = (card.plan_name, card.configuration.previous_stage)
    found = [
        index
        for index, members in enumerate(together)
        if any((m.card.plan_name, m.card.configuration.name) == needed for m in members)
    ]
    if len(found) == 1:
        return found[0]
    what = f"{needed[1]} beside it, of the same plan ({needed[0]})"
    if not found:
        raise AutosegError(
            f"{second}: the second stage of a cascade, which needs a model of {what}. Give both "
            "with --model."
        )
    raise AutosegError(
        f"{second}: the second stage of a cascade, but there are different models of {what}. Give "
        "those that were trained alike."
    )


def _check_alike(sources: Sequence[ModelSource]) -> None:
    """Raise AutosegError when models do not answer the same question about the same voxels."""
    first, *others = sources
    for source in others:
        card = source.card
        if (card.labels, card.channel_names) != (first.card.labels, first.card.channel_names):
            raise AutosegError(
                f"{source} is of other labels or channels than {first}, so they cannot be "
                "averaged. Give models of one dataset."
            )
        own, other = card.configuration.grid, first.card.configuration.grid
        if (own.orientation, own.axis_order) != (other.orientation, other.axis_order):
            raise AutosegError(
                f"{source} sees scans along other axes than {first}, so they cannot be "
                "averaged. Give models of plans that order axes alike."
            )


def _load_group(sources: Sequence[ModelSource], engine: Engine) -> ModelGroup:
    inference = _shared_inference([source.card.configuration.inference for source in sources])
    card = sources[0].card
    configuration = card.configuration.model_copy(update={"inference": inference})
    card = card.model_copy(update={"configuration": configuration})
    loaded = [load_source(source) for source in sources]
    hashes = tuple(file_hash for _, file_hash in loaded)
    if len(set(hashes)) < len(hashes):
        raise AutosegError(
            f"{', '.join(map(str, sources))}: some of them are the same model. Name each once."
        )
    model, kind = configuration.model, family_of(configuration.model.network.kind)
    requests = [
        EngineRequest(
            network=network,
            device=engine.device,
            patch_shape=(len(model.channel_names), *model.patch_size_vox),
            example_shape=_example_shape(model, kind),
            key=f"{key} {_network_code()}",
            cache=engine.cache if kind.built_in else None,
        )
        for network, key in loaded
    ]
    ensemble = Ensemble(
        runners=tuple(ENGINES[engine.name](request) for request in requests),
        spatial_dims=model.spatial_dims,
        mirror_axes=configuration.inference.mirror_axes,
        task=task_of(configuration, card.labels),
    )
    return ModelGroup(card, ensemble, hashes)


def _shared_inference(plans: Sequence[InferencePlan]) -> InferencePlan:
    """How models that are averaged patch by patch predict: mirrored as all of them may be, with
    the smallest of their steps and the widest of their Gaussians."""
    axes = tuple(axis for axis in plans[0].mirror_axes if all(axis in p.mirror_axes for p in plans))
    shared = {
        "mirror_axes": axes,
        "step_fraction": min(plan.step_fraction for plan in plans),
        "gaussian_sigma_fraction": max(plan.gaussian_sigma_fraction for plan in plans),
    }
    return plans[0].model_copy(update=shared)


def _example_shape(model: ModelPlan, family: Family) -> tuple[int, ...]:
    """A small input, if the network does the same with it as with a patch.

    Two voxels at the lowest resolution, for a single one cannot be normalised.
    """
    size = model.patch_size_vox
    if family.same_at_any_size:
        size = tuple(2 * divisor for divisor in family.patch_divisor(model.network))
    return (len(model.channel_names), *size)


@lru_cache
def _network_code() -> str:
    """Stands for the code of networks: what was compiled of older code must not be run."""
    files = sorted(Path(networks.__path__[0]).glob("*.py"))
    return content_hash(b"".join(file.read_bytes() for file in files))


def _expanding(predict: PredictPatches, inputs: Sequence[InputPlan]) -> PredictPatches:
    """Takes patches whose last channels are maps, which networks see as channels of their own.

    Patch by patch, since a whole scan with a channel for every class may not fit into memory.
    """
    kinds = map_kinds(inputs)

    def run(patches: torch.Tensor) -> torch.Tensor:
        image, maps = patches[:, : -len(kinds)], patches[:, -len(kinds) :]
        by_kind = dict(zip(kinds, maps.unbind(1), strict=True))
        return predict(network_input(image, by_kind, inputs))

    return run
