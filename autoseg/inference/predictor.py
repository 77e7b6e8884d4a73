"""From a scan to its segmentation, with models loaded once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.checkpoint import ModelCard, content_hash
from autoseg.device import Device, Precision, choose_device
from autoseg.errors import AutosegError, EngineError
from autoseg.geometry import Grid
from autoseg.images.volume import Volume
from autoseg.inference.confidence import ClassConfidence, presence
from autoseg.inference.engines import EngineName
from autoseg.inference.joining import JoinedObjects
from autoseg.inference.maps import Maps, RequestedMaps
from autoseg.inference.members import sources_of
from autoseg.inference.models import Engine, GridScan, ModelGroup, fastest_way, load_groups
from autoseg.inference.probabilities import rewrite_probabilities
from autoseg.inference.provenance import Provenance, scan_warnings
from autoseg.inference.ways import Asked, Way, usual_way
from autoseg.inference.whole_scan import WholeScan
from autoseg.postprocessing.quality import MaskQuality, QualityModel, judge
from autoseg.postprocessing.recipe import Recipe
from autoseg.postprocessing.steps import Absent, Step, apply_steps, describe
from autoseg.postprocessing.sureness import ObjectSureness
from autoseg.preprocessing.placing import place_mask, prepare_scan
from autoseg.preprocessing.tilt import Tilt, tilt_of
from autoseg.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Labels [z, y, x] with the values of the training files, on the scan's own grid.

    `entropy` is the decision's in nats; `disagreement` the share of models of a configuration that
    decide otherwise than their mean. `confidence` is of each foreground class, or region. Of
    objects, `certainty` is how probable the likeliest class of each voxel is, and `parting` what
    parts those that touch [1 or 3, z, y, x], where the models learned that: how deep a voxel lies
    in its object, or the way to its middle; or queries found the `objects` themselves, whose
    numbers are in the scan's place.
    """

    labels: Volume
    provenance: Provenance
    entropy: Volume | None = None
    disagreement: Volume | None = None
    confidence: tuple[ClassConfidence, ...] | None = None
    certainty: Volume | None = None
    parting: Volume | None = None
    objects: JoinedObjects | None = None


@dataclass(frozen=True, slots=True)
class ReadyScan:
    """A scan that was put on the grid of every group of models, and of the stages before them.

    Where its slices are tilted, networks see it upright, and `tilt` is the way back.
    """

    case_id: str
    grid: Grid
    nifti_header: Any
    scan_hash: str
    scans: tuple[GridScan, ...]
    first_scans: tuple[GridScan | None, ...]
    warnings: tuple[str, ...]
    tilt: Tilt | None = None

    def with_values(self, array: NDArray[Any]) -> Volume:
        """Values [z, y, x] as networks see the scan, in the scan's place."""
        own = array if self.tilt is None else self.tilt.back(array)
        return Volume(own, self.grid, self.nifti_header)

    @property
    def seen_grid(self) -> Grid:
        """The grid that networks' answers lie on: the scan's own, or upright."""
        return self.grid if self.tilt is None else self.tilt.upright


@dataclass(frozen=True, slots=True)
class Predictor:
    """Models that predict together. May be called by several threads at once.

    Models of one configuration are averaged as logits, patch by patch; configurations are averaged
    as probabilities on the scan's grid; then `steps` correct the mask. `quality` says what Dice to
    expect of each class. `memory_gib` limits what one call at a time takes, in GiB and with all
    that the process holds already; without it, most of what is free is used.
    """

    groups: tuple[ModelGroup, ...]
    device: Device
    way: Way
    memory_gib: float | None = None
    steps: tuple[Step, ...] = ()
    quality: QualityModel | None = None
    sureness: ObjectSureness | None = None

    @classmethod
    def load(
        cls,
        paths: Sequence[Path | str],
        device: str | None = None,
        precision: Precision | None = None,
        engine: EngineName | None = None,
        memory_gib: float | None = None,
        cache: Path | None = None,
        recipe: Recipe | None = None,
    ) -> "Predictor":
        """Load model files: folds, both stages of a cascade, several configurations; or one pack.

        Without names the fastest device is taken, and the precision and engine that are measured to
        be the fastest there. Compiled networks, and what was measured, are kept in the folder
        `cache`; without one nothing is measured, and what is usually fast is taken. The `recipe`
        says which configurations answer and which steps follow, as a pack says itself. Raises
        AutosegError when models do not belong together, a stage is missing, or device or engine are
        not there.
        """
        chosen = choose_device(device, precision)
        sources, used = sources_of([Path(path) for path in paths], recipe)
        asked = Asked(engine, precision)
        if cache is None:
            way = usual_way(asked, chosen)
        else:
            way = fastest_way(sources, asked, chosen, cache)

        def run_by(way: Way) -> "Predictor":
            on = replace(chosen, precision=way.precision)
            groups = load_groups(sources, used, Engine(way, on, cache))
            return cls(groups, on, way, memory_gib, used.steps, used.quality, used.sureness)

        try:
            return run_by(way)
        except EngineError as error:
            if engine is not None:
                raise
            log.warning("Networks are run by torch: %s", error)
        return run_by(usual_way(replace(asked, engine="torch"), chosen))

    @property
    def card(self) -> ModelCard:
        """What the first of the models says of itself; labels and channels are those of all."""
        return self.groups[0].card

    @property
    def smallest_object_mm(self) -> float:
        """How wide a thing is at least, for all of the models."""
        return min(g.card.configuration.inference.smallest_object_mm for g in self.groups)

    def __call__(
        self, scan: Volume, case_id: str = "scan", requested: RequestedMaps | None = None
    ) -> Segmentation:
        """Segment one scan. Raises AutosegError when its number of channels is not the model's."""
        return self.segment(self.prepare(scan, case_id), requested)

    def prepare(self, scan: Volume, case_id: str) -> ReadyScan:
        """The first half of a call, without networks."""
        expected = self.card.channel_names
        if scan.array.shape[0] != len(expected):
            remedy = "Give one file per channel, named <case>_0000, <case>_0001 and so on."
            if len(expected) == 1:
                remedy = "Give a scan of one channel, such as one volume of a series over time."
            raise AutosegError(
                f"{case_id}: has {scan.array.shape[0]} channels, but the model needs "
                f"{len(expected)}: {', '.join(expected)}. {remedy}"
            )

        tilt = tilt_of(scan.grid)
        array = scan.array if tilt is None else tilt.set_upright(scan.array)
        seen = scan.grid if tilt is None else tilt.upright

        def placed(group: ModelGroup) -> GridScan:
            grid = group.card.configuration.grid
            prepared = prepare_scan(array, None, seen, grid, case_id)
            return GridScan(prepared.image, prepared.placement)

        scans = tuple(placed(group) for group in self.groups)
        warnings = [
            warning
            for group, own in zip(self.groups, scans, strict=True)
            for warning in scan_warnings(scan, group.card, own.placement)
        ]
        return ReadyScan(
            case_id=case_id,
            grid=scan.grid,
            nifti_header=scan.nifti_header,
            scan_hash=content_hash(np.ascontiguousarray(scan.array).data),
            scans=scans,
            first_scans=tuple(
                None if group.previous is None else placed(group.previous) for group in self.groups
            ),
            warnings=tuple(dict.fromkeys([*(odd.what for odd in scan.oddities), *warnings])),
            tilt=tilt,
        )

    def segment(self, ready: ReadyScan, requested: RequestedMaps | None = None) -> Segmentation:
        """The second half: networks, and the way back to the scan's grid."""
        requested = requested or RequestedMaps()
        groups = self.groups
        if requested.uncertainty and any(len(group.hashes) > 1 for group in groups):
            groups = tuple(
                group.showing_disagreement() if len(group.hashes) > 1 else group for group in groups
            )
        warnings = list(ready.warnings)
        scans = []
        for group, own, first in zip(groups, ready.scans, ready.first_scans, strict=True):
            scan, found = self.after_first_stage(group, own, first)
            scans.append(scan)
            warnings += found
        looked_at = requested.confidence or requested.uncertainty or self.quality is not None
        looked_at = looked_at or any(isinstance(step, Absent) for step in self.steps)
        wanted = replace(requested, confidence=looked_at)
        maps = self._run(groups, scans, wanted)
        if ready.tilt is not None and requested.probability_file is not None:
            rewrite_probabilities(requested.probability_file, ready.tilt.back)
        labels, done = apply_steps(
            self.card.labels.decode(maps.classes),
            ready.seen_grid.spacing_mm,
            self.steps,
            presence(maps.confidence or ()),
        )
        quality, doubts = self._judge(maps)
        provenance = self._provenance(ready, [*warnings, *maps.warnings, *doubts], done)
        return Segmentation(
            labels=ready.with_values(labels),
            provenance=provenance.model_copy(
                update={"quality": quality, "disagreement": _disagreement(maps)}
            ),
            entropy=None if maps.entropy is None else ready.with_values(maps.entropy),
            disagreement=(
                None if maps.disagreement is None else ready.with_values(maps.disagreement)
            ),
            confidence=maps.confidence if requested.confidence else None,
            certainty=None if maps.certainty is None else ready.with_values(maps.certainty),
            parting=None if maps.parting is None else ready.with_values(maps.parting),
            objects=_in_place(maps.objects, ready),
        )

    def after_first_stage(
        self, group: ModelGroup, scan: GridScan, first: GridScan | None
    ) -> tuple[GridScan, tuple[str, ...]]:
        """A scan with what the stage before a group finds in it, if there is one; and warnings."""
        if group.previous is None or first is None:
            return scan, ()
        found = self._run((group.previous,), (first,), RequestedMaps())
        mask = _mask_for(group, scan, found)
        return replace(scan, maps={**scan.maps, "stage_mask": mask}), found.warnings

    def _run(
        self, groups: Sequence[ModelGroup], scans: Sequence[GridScan], requested: RequestedMaps
    ) -> Maps:
        return WholeScan(groups, scans, self.device, self.memory_gib, self.way.together).segment(
            requested
        )

    def _judge(self, maps: Maps) -> tuple[MaskQuality | None, tuple[str, ...]]:
        """How good the mask is likely to be, before steps correct it, and what to warn of."""
        if self.quality is None or maps.confidence is None:
            return None, ()
        return judge(self.quality, {c.name: c.expected_dice for c in maps.confidence})

    def _provenance(
        self, ready: ReadyScan, warnings: Sequence[str], done: Sequence[Step] = ()
    ) -> Provenance:
        return Provenance(
            case_id=ready.case_id,
            scan=ready.scan_hash,
            models=tuple(h for group in self.groups for h in group.all_hashes),
            autoseg_version=__version__,
            engine=self.way.engine,
            device=self.device.name,
            precision=self.device.precision,
            mirror_axes=self.card.configuration.inference.mirror_axes,
            postprocessing=tuple(describe(step) for step in done),
            warnings=tuple(dict.fromkeys(warnings)),
        )


def _in_place(objects: JoinedObjects | None, ready: ReadyScan) -> JoinedObjects | None:
    if objects is None:
        return None
    return replace(objects, numbers=ready.with_values(objects.numbers).array)


def _disagreement(maps: Maps) -> dict[str, float] | None:
    """Of each class that was found; None where models were not compared."""
    if maps.disagreement is None:
        return None
    each = {c.name: c.disagreement for c in maps.confidence or ()}
    return {name: round(share, 4) for name, share in each.items() if share is not None}


def _mask_for(group: ModelGroup, scan: GridScan, found: Maps) -> NDArray[np.uint8]:
    """What an earlier stage found, on the grid of the later one, by way of the file's values, as
    masks of training went."""
    scheme = group.card.labels
    mask = scheme.encode_mask(scheme.decode(found.classes))
    return place_mask(mask, scan.placement, group.card.configuration.grid)
