"""From a scan to its segmentation, with models loaded once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.checkpoint import ModelCard
from autoseg.device import Device, Precision, choose_device
from autoseg.errors import AutosegError, EngineError
from autoseg.geometry import Grid
from autoseg.images.volume import Volume
from autoseg.inference.confidence import ClassConfidence
from autoseg.inference.engines import EngineName
from autoseg.inference.engines.openvino_engine import PRECISIONS, is_installed
from autoseg.inference.models import GridScan, ModelGroup, content_hash, load_groups
from autoseg.inference.provenance import Provenance, scan_warnings
from autoseg.inference.whole_scan import Maps, RequestedMaps, WholeScan
from autoseg.preprocessing.prepare import place_mask, prepare_scan
from autoseg.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Labels [z, y, x] with the values of the training files, on the scan's own grid.

    `entropy` is the decision's in nats; `disagreement` the share of models of a configuration that
    decide otherwise than their mean. `confidence` is of each foreground class, or region.
    """

    labels: Volume
    provenance: Provenance
    entropy: Volume | None = None
    disagreement: Volume | None = None
    confidence: tuple[ClassConfidence, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReadyScan:
    """A scan that was put on the grid of every group of models, and of the stages before them."""

    case_id: str
    grid: Grid
    nifti_header: Any
    scan_hash: str
    scans: tuple[GridScan, ...]
    first_scans: tuple[GridScan | None, ...]
    warnings: tuple[str, ...]

    def with_values(self, array: NDArray[Any]) -> Volume:
        """Values [z, y, x] in the scan's place."""
        return Volume(array, self.grid, self.nifti_header)


@dataclass(frozen=True, slots=True)
class Predictor:
    """Models that predict together. May be called by several threads at once.

    Models of one configuration are averaged as logits, patch by patch; configurations are averaged
    as probabilities on the scan's grid. `memory_gib` limits what one call at a time takes, in GiB
    and with all that the process holds already; without it, most of what is free is used.
    """

    groups: tuple[ModelGroup, ...]
    device: Device
    engine: EngineName
    memory_gib: float | None = None

    @classmethod
    def load(
        cls,
        paths: Sequence[Path | str],
        device: str | None = None,
        precision: Precision | None = None,
        engine: EngineName | None = None,
        memory_gib: float | None = None,
        cache: Path | None = None,
    ) -> "Predictor":
        """Load model files: folds, both stages of a cascade, several configurations.

        Without names the fastest device, precision and engine that are there are taken. Compiled
        networks are kept in the folder `cache`. Raises AutosegError when models do not belong
        together, a stage is missing, or device or engine are not there.
        """
        chosen = choose_device(device, precision)
        files = [Path(path) for path in paths]
        if engine == "onnxruntime" and precision is None:
            chosen = replace(chosen, precision="fp32")
        if engine is not None:
            return cls(load_groups(files, chosen, engine, cache), chosen, engine, memory_gib)
        suits = chosen.torch_device.type == "cpu" and chosen.precision in PRECISIONS
        if suits and is_installed():
            try:
                groups = load_groups(files, chosen, "openvino", cache)
                return cls(groups, chosen, "openvino", memory_gib)
            except EngineError as error:
                log.warning("Networks are run by torch: %s", error)
        return cls(load_groups(files, chosen, "torch", cache), chosen, "torch", memory_gib)

    @property
    def card(self) -> ModelCard:
        """What the first of the models says of itself; labels and channels are those of all."""
        return self.groups[0].card

    def __call__(
        self, scan: Volume, case_id: str = "scan", requested: RequestedMaps | None = None
    ) -> Segmentation:
        """Segment one scan. Raises AutosegError when its number of channels is not the model's."""
        return self.segment(self.prepare(scan, case_id), requested)

    def prepare(self, scan: Volume, case_id: str) -> ReadyScan:
        """The first half of a call, without networks."""
        expected = self.card.channel_names
        if scan.array.shape[0] != len(expected):
            raise AutosegError(
                f"{case_id}: has {scan.array.shape[0]} channels, but the model needs "
                f"{len(expected)}: {', '.join(expected)}. Give one file per channel, named "
                "<case>_0000, <case>_0001 and so on."
            )

        def placed(group: ModelGroup) -> GridScan:
            grid = group.card.configuration.grid
            prepared = prepare_scan(scan.array, None, scan.grid, grid, case_id)
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
            if group.previous is None or first is None:
                scans.append(own)
                continue
            found = self._run((group.previous,), (first,), RequestedMaps())
            warnings += found.warnings
            mask = _mask_for(group, own, found)
            scans.append(replace(own, maps={**own.maps, "stage_mask": mask}))
        maps = self._run(groups, scans, requested)
        return Segmentation(
            labels=ready.with_values(self.card.labels.decode(maps.classes)),
            provenance=self._provenance(ready, [*warnings, *maps.warnings]),
            entropy=None if maps.entropy is None else ready.with_values(maps.entropy),
            disagreement=(
                None if maps.disagreement is None else ready.with_values(maps.disagreement)
            ),
            confidence=maps.confidence,
        )

    def _run(
        self, groups: Sequence[ModelGroup], scans: Sequence[GridScan], requested: RequestedMaps
    ) -> Maps:
        return WholeScan(groups, scans, self.device, self.memory_gib).segment(requested)

    def _provenance(self, ready: ReadyScan, warnings: Sequence[str]) -> Provenance:
        return Provenance(
            case_id=ready.case_id,
            scan=ready.scan_hash,
            models=tuple(h for group in self.groups for h in group.all_hashes),
            autoseg_version=__version__,
            engine=self.engine,
            device=self.device.name,
            precision=self.device.precision,
            mirror_axes=self.card.configuration.inference.mirror_axes,
            warnings=tuple(dict.fromkeys(warnings)),
        )


def _mask_for(group: ModelGroup, scan: GridScan, found: Maps) -> NDArray[np.uint8]:
    """What an earlier stage found, on the grid of the later one, by way of the file's values, as
    masks of training went."""
    scheme = group.card.labels
    mask = scheme.encode_mask(scheme.decode(found.classes))
    return place_mask(mask, scan.placement, group.card.configuration.grid)
