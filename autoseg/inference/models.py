"""Models that are loaded and predict together: folds, stages of a cascade, and configurations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoseg import networks
from autoseg.checkpoint import (
    ModelCard,
    ModelSource,
    build_network,
    content_hash,
    load_source,
)
from autoseg.device import Device
from autoseg.errors import AutosegError
from autoseg.geometry import Placement, Shape3
from autoseg.inference.columns import Footprint
from autoseg.inference.engines import ENGINES, EngineRequest
from autoseg.inference.ensemble import Ensemble
from autoseg.inference.joining import JoinedObjects, SeenObjects
from autoseg.inference.members import Members, arrange
from autoseg.inference.merging import DenseSums, MakeMerger
from autoseg.inference.queries import QueryMerging
from autoseg.inference.restore import Block, Column, Span, interpolation_matrices, restored_blocks
from autoseg.inference.sliding_window import (
    Batching,
    PredictPatches,
    gaussian_weight,
    predict_logits,
    tile,
)
from autoseg.inference.ways import (
    Asked,
    Way,
    choice_path,
    choose,
    has_choice,
    remembered,
    request_of,
    usual_way,
)
from autoseg.networks import family_of
from autoseg.networks.family import Family
from autoseg.networks.inputs import map_kinds, network_input
from autoseg.networks.mask_queries import PackedQueries, PacksObjects
from autoseg.planning.model_plan import InputPlan, ModelPlan
from autoseg.planning.network_plan import BoxNetworkPlan, OneStagePlan, QueryNetworkPlan
from autoseg.postprocessing.recipe import Recipe
from autoseg.tasks import task_of
from autoseg.tasks.query_layout import QueryLayout
from autoseg.tasks.task import Task

PLACING = (BoxNetworkPlan, OneStagePlan, QueryNetworkPlan)  # that compute where things are


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
        layout = self.ensemble.queries
        return Footprint(
            configuration=configuration,
            cost=family_of(model.network.kind).cost(model),
            placement=placement,
            channels=len(model.channel_names),
            outputs=self.outputs,
            compared_models=compared,
            matrices=interpolation_matrices(placement, configuration.grid.resampling),
            found=0 if layout is None else len(self.hashes) * layout.size,
        )

    def blocks(
        self,
        scan: GridScan,
        columns: Sequence[Column],
        rows: int,
        batching: Batching,
        device: Device,
        objects: SeenObjects | None = None,
    ) -> Iterator[Block]:
        """Mean logits on the source's resolution, block after block of its crop; the objects that
        queries find are added to others."""
        configuration = self.card.configuration
        model = configuration.model
        image = torch.from_numpy(scan.image).to(batching.sums_on)
        maps = [torch.from_numpy(scan.maps[kind]).to(image) for kind in map_kinds(model.inputs)]
        if maps:
            image = torch.cat((image, torch.stack(maps)))
        ensemble = replace(self.ensemble, inputs_at_once=batching.inputs_at_once)
        batching = replace(batching, merger=self._merger(objects))

        def run(patches: torch.Tensor) -> torch.Tensor:
            return ensemble(patches.to(device.torch_device))

        patches_of = _expanding(run, model.inputs) if maps else run

        def predict(y: Span, x: Span) -> Iterator[torch.Tensor]:
            return predict_logits(
                image, patches_of, model.patch_box_vox, configuration.inference, (y, x), batching
            )

        resampling = configuration.grid.resampling
        return restored_blocks(predict, scan.placement, resampling, columns, rows)

    def no_objects(self) -> SeenObjects | None:
        """Where objects of a scan are to be added; None of models that find none as wholes."""
        layout, inference = self.ensemble.queries, self.card.configuration.inference
        if layout is None:
            return None
        weight = gaussian_weight(layout.patch_vox, inference.gaussian_sigma_fraction)
        return SeenObjects(weight.numpy(), layout.plan.kept_share)

    def joined(self, objects: SeenObjects, shape_vox: Shape3) -> JoinedObjects:
        """The objects of a scan [z, y, x] of a shape, once all of its blocks are there."""
        configuration = self.card.configuration
        patch = configuration.model.patch_box_vox
        padding = tile(shape_vox, patch, configuration.inference.step_fraction).padding
        z, y, x = (slice(a, a + n) for (a, _), n in zip(padding, shape_vox, strict=True))
        depth, height, width = (a + n + b for (a, b), n in zip(padding, shape_vox, strict=True))
        return objects.joined((depth, height, width), (z, y, x))

    def _merger(self, objects: SeenObjects | None) -> MakeMerger:
        layout, shown = self.ensemble.queries, self.ensemble.shows_disagreement
        if layout is None:
            return DenseSums
        return QueryMerging(layout, self.task.answer, shown, objects)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where and how networks are run, and the folder where compiled ones are kept."""

    way: Way
    device: Device
    cache: Path | None


def fastest_way(sources: Sequence[ModelSource], asked: Asked, device: Device, cache: Path) -> Way:
    """The way in which the first of some models is run fastest, of those that were asked for.

    Its weights do not matter, so that what was found of one fold holds for all. What was found
    before, as is kept in the folder `cache`, is not measured again.
    """
    model = sources[0].card.configuration.model
    if not (family_of(model.network.kind).built_in and has_choice(asked, device)):
        return usual_way(asked, device)
    key = f"{content_hash(model.model_dump_json().encode())} {_network_code()}"
    path = choice_path(asked, key, device, cache)
    way = remembered(path)
    if way is None:
        with torch.random.fork_rng(devices=[]):
            request = _request(model, build_network(model).eval(), key, device, None)
        way = choose(asked, request, path)
    return way


def load_groups(
    sources: Sequence[ModelSource], recipe: Recipe, engine: Engine
) -> tuple[ModelGroup, ...]:
    """The groups that decide together; first stages are behind their second ones.

    Raises AutosegError as `arrange` does.
    """
    arranged = arrange(sources, recipe)
    groups = [_load_group(members, engine) for members in arranged]
    later = [
        replace(group, previous=groups[members.previous])
        for group, members in zip(groups, arranged, strict=True)
        if members.previous is not None
    ]
    alone = [
        group
        for group, members in zip(groups, arranged, strict=True)
        if members.previous is None and members.answer
    ]
    return (*alone, *later)


def _load_group(members: Members, engine: Engine) -> ModelGroup:
    card, sources = members.card, members.sources
    configuration = card.configuration
    loaded = [load_source(source) for source in sources]
    hashes = tuple(file_hash for _, file_hash in loaded)
    if len(set(hashes)) < len(hashes):
        raise AutosegError(
            f"{', '.join(map(str, sources))}: some of them are the same model. Name each once."
        )
    model, way = configuration.model, engine.way
    requests = [
        request_of(way, _request(model, network, key, engine.device, engine.cache))
        for network, key in loaded
    ]
    ensemble = Ensemble(
        runners=tuple(ENGINES[way.engine](request) for request in requests),
        spatial_dims=model.spatial_dims,
        mirror_axes=configuration.inference.mirror_axes,
        task=task_of(configuration, card.labels),
        queries=QueryLayout.of(model),
    )
    return ModelGroup(card, ensemble, hashes)


def _request(
    model: ModelPlan, network: nn.Module, key: str, device: Device, cache: Path | None
) -> EngineRequest:
    kind = family_of(model.network.kind)
    if QueryLayout.of(model) is not None:
        assert isinstance(network, PacksObjects), model.network.kind
        network = PackedQueries(network)
    return EngineRequest(
        network=network,
        device=device,
        patch_shape=(len(model.channel_names), *model.patch_size_vox),
        example_shape=_example_shape(model, kind),
        key=f"{key} {_network_code()}",
        cache=cache if kind.built_in else None,
        places=isinstance(model.network, PLACING),
    )


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
