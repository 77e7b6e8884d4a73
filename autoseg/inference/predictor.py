"""From a scan to its segmentation, with models loaded once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg import __version__
from autoseg.checkpoint import ModelCard, load_model, read_card
from autoseg.device import Device, Precision, choose_device
from autoseg.errors import AutosegError
from autoseg.export.restore import decide_classes, decide_regions, restore_classes
from autoseg.geometry import Placement
from autoseg.inference.engines import ENGINES, EngineName
from autoseg.inference.sliding_window import Engine, predict_logits
from autoseg.one_hot import one_hot
from autoseg.preprocessing.prepare import prepare_scan
from autoseg.records import Record
from autoseg.volume import Volume

SPACING_RATIO_WARNED = 2.0  # against the plan's target spacing


class Provenance(Record):
    """Where a mask came from."""

    case_id: str
    scan: str  # blake2b of the scan's voxels
    models: tuple[str, ...]  # blake2b of each model file
    autoseg_version: str
    engine: EngineName
    device: str
    precision: Precision
    mirror_axes: tuple[int, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Labels [z, y, x] with the values of the training files, on the scan's own grid."""

    labels: Volume
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Predictor:
    """Models of one configuration, averaged; `previous` predicts the stage before it, if any."""

    card: ModelCard
    engine: Engine
    device: Device
    model_hashes: tuple[str, ...]
    previous: "Predictor | None" = None

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        device: str | None = None,
        precision: Precision | None = None,
    ) -> "Predictor":
        """Load model files: of one configuration, or of both stages of a cascade.

        Raises AutosegError when they are of several, or a stage is missing.
        """
        cards = {path: read_card(path) for path in paths}
        names = {card.configuration.name for card in cards.values()}
        last = next(iter(cards.values()))
        for card in cards.values():
            if card.configuration.previous_stage in names:
                last = card
        earlier = [
            p for p in paths if cards[p].configuration.name == last.configuration.previous_stage
        ]
        chosen = choose_device(device, precision)
        predictor = cls._of_one_stage([p for p in paths if p not in earlier], chosen)
        needed = predictor.card.configuration.previous_stage
        if needed is None:
            return predictor
        if not earlier:
            raise AutosegError(
                f"{paths[0]}: the second stage of a cascade, which needs a model of {needed} "
                "beside it. Give both with --model."
            )
        previous = cls._of_one_stage(earlier, chosen)
        if (previous.card.labels, previous.card.channel_names) != (
            predictor.card.labels,
            predictor.card.channel_names,
        ):
            raise AutosegError(
                f"{earlier[0]} is of other labels or channels than {paths[0]}, so they are no "
                "stages of one cascade."
            )
        return replace(predictor, previous=previous)

    @classmethod
    def _of_one_stage(cls, paths: Sequence[Path], device: Device) -> "Predictor":
        loaded = [load_model(path) for path in paths]
        first = loaded[0][0]
        for path, (card, _) in zip(paths, loaded, strict=True):
            if (card.configuration, card.labels, card.channel_names) != (
                first.configuration,
                first.labels,
                first.channel_names,
            ):
                raise AutosegError(
                    f"{path} and {paths[0]} are of different configurations and cannot be "
                    "averaged. Give models of one plan and configuration."
                )
        configuration = first.configuration
        networks = [network for _, network in loaded]
        mirror_axes = configuration.inference.mirror_axes
        return cls(
            card=first,
            engine=ENGINES["torch"](networks, configuration.spatial_dims, mirror_axes, device),
            device=device,
            model_hashes=tuple(_hash(path.read_bytes()) for path in paths),
        )

    def __call__(self, scan: Volume, case_id: str) -> Segmentation:
        """Segment one scan. Raises AutosegError when its number of channels is not the model's."""
        expected = self.card.channel_names
        if scan.array.shape[0] != len(expected):
            raise AutosegError(
                f"{case_id}: has {scan.array.shape[0]} channels, but the model needs "
                f"{len(expected)}: {', '.join(expected)}. Give one file per channel, named "
                "<case>_0000, <case>_0001 and so on."
            )
        labels, placement = self._segment(scan, case_id)
        earlier = () if self.previous is None else self.previous.model_hashes
        provenance = Provenance(
            case_id=case_id,
            scan=_hash(np.ascontiguousarray(scan.array).data),
            models=(*earlier, *self.model_hashes),
            autoseg_version=__version__,
            engine="torch",
            device=str(self.device.torch_device),
            precision=self.device.precision,
            mirror_axes=self.card.configuration.inference.mirror_axes,
            warnings=_spacing_warnings(placement),
        )
        return Segmentation(Volume(labels, scan.grid, scan.nifti_header), provenance)

    def _segment(self, scan: Volume, case_id: str) -> tuple[NDArray[np.integer[Any]], Placement]:
        """Label values [z, y, x] on the scan's grid."""
        configuration, scheme = self.card.configuration, self.card.labels
        found = None
        if self.previous is not None:
            found = scheme.encode_mask(self.previous._segment(scan, case_id)[0])
        prepared = prepare_scan(scan.array, None, scan.grid, configuration, case_id, found)
        image = torch.from_numpy(prepared.image).to(self.device.torch_device)
        engine = self.engine
        if prepared.previous_label is not None:
            mask = torch.from_numpy(prepared.previous_label).to(image.device)
            image = torch.cat((image, mask[None]))
            engine = _expanding(engine, len(scheme.values) - 1)
        slabs = predict_logits(image, engine, configuration.patch_box_vox, configuration.inference)
        decide = decide_regions if scheme.regions else decide_classes
        indices = restore_classes(slabs, prepared.placement, configuration.resampling, decide)
        return scheme.decode(indices), prepared.placement


def _expanding(engine: Engine, foreground_classes: int) -> Engine:
    """An engine for patches whose last channel holds class indices, which networks see one by one.

    Patch by patch, since a whole scan with a channel for every class may not fit into memory.
    """

    def run(patches: torch.Tensor) -> torch.Tensor:
        masks = one_hot(patches[:, -1], foreground_classes)
        return engine(torch.cat((patches[:, :-1], masks), dim=1))

    return run


def _spacing_warnings(placement: Placement) -> tuple[str, ...]:
    """Name a spacing that is far from what the model was trained at."""
    pairs = list(zip(placement.source_spacing_mm, placement.target_spacing_mm, strict=True))
    if all(max(a / b, b / a) <= SPACING_RATIO_WARNED for a, b in pairs):
        return ()
    found = " x ".join(f"{a:.3g}" for a, _ in pairs)
    trained = " x ".join(f"{b:.3g}" for _, b in pairs)
    return (
        f"spacing {found} mm is more than {SPACING_RATIO_WARNED:g} times off the {trained} mm that "
        "the model was trained at; check the mask with care",
    )


def _hash(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
